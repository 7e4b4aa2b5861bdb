"""Answers in words: which texts are words, choices or denials, and the words for numbers. Text in, text out."""

import re

# What turns an answer into another one, or takes it back.
DENIAL = re.compile(
    r"\\(?:not|neg|lnot|Rightarrow|Longrightarrow|implies|nRightarrow)(?![A-Za-z])|(?<![A-Za-z])(?:not|no|never|none|nothing"
    r"|neither|nor|cannot|without|excep\w*|exclud\w*|unless|wrong|incorrect|false|untrue|invalid|maybe|perhaps|possibly"
    r"|instead|rather|otherwise|anything|something|twice|thrice|doubled?|doubles|tripled?|triples|halved|negat\w*"
    r"|(?:half|square|cube|double|root|conjugate|under) (?:of|zero)"
    r"|opposite|reciprocals?|inverse|below zero|unlike)(?![A-Za-z])|n't(?![A-Za-z])",
    re.I,
)


def denies(gold: str, pred: str) -> bool:
    """Whether an answer has words that deny or change what it says, which the ground truth has not."""
    return not set(map(str.casefold, DENIAL.findall(pred))) <= set(map(str.casefold, DENIAL.findall(gold)))


def listed(names: str) -> list[str]:
    return names.split()


_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
NUMBERS = {word: number for number, word in enumerate(_NUMBERS.split())}
TENS = dict(zip(listed("twenty thirty forty fifty sixty seventy eighty ninety"), range(20, 100, 10), strict=True))
SCALES = {"hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
NUMBER = "|".join([*TENS, *sorted(NUMBERS, key=len, reverse=True), *SCALES])
COUNT = re.compile(rf"^([\s⟦]*)((?:{NUMBER})(?:(?:\s+and\s+|\s*-\s*|\s+)(?:{NUMBER}))*)(?![A-Za-z-])", re.I)
ONE_FOR_A = re.compile(r"^([\s⟦]*)an?\s+(?=(?:hundred|thousand|million|dozen)\b)", re.I)
FRACTION_WORD = re.compile(
    r"(?<=[a-z])-(?=(?:half|halves|thirds?|quarters?|fourths?|(?:fif|six|seven|eigh|nin|ten)ths?)\b)"
)
ORDINAL = re.compile(r"\b(\d+)(?:st|nd|rd|th)\b")
ARTICLE = re.compile(r"\b(?:an?|the)\s+(?=\S\S)")
NOWHERE = re.compile(r"(?:there (?:is|are) )?no (?:real )?solutions?(?: exists?)?$")
TEXT = re.compile(r"[A-Za-z][A-Za-z0-9 ,.'\"-]*[A-Za-z0-9]")
CHOICE = re.compile(r"^(?:\(([A-J])\)|([A-J])[.):])\s*(?=\S)(?!\(?[A-J][.):])(.*)$")
ANOTHER = re.compile(r"(?<![A-Za-z\\])[A-J](?![A-Za-z])|\bor\b|,")  # of two choices none is made
# Two letters that are a word and no product.
SHORT_WORDS = set(listed("am an as at be by do go he hi if in is it me my no of on or ox so to up us we"))


def digits_for_words(text: str) -> str:
    """`text` with the number word at its start in digits: twenty-five apples is 25 apples."""
    text = ONE_FOR_A.sub(r"\1one ", FRACTION_WORD.sub(" ", text))
    found = COUNT.match(text)
    if not found or (value := _value(re.split(r"[\s-]+", found[2].lower()))) is None:
        return text
    return f"{found[1]}{value}{text[found.end() :]}"


def _value(words: list[str]) -> int | None:
    total, part, last = 0, 0, 10**12
    if words[0] in SCALES:
        return None
    for word in words:
        if word == "and":
            continue
        if word == "hundred":
            part, last = part * 100, 100
        elif word in SCALES:
            total, part, last = total + part * SCALES[word], 0, 10**12
        else:
            number = NUMBERS.get(word, TENS.get(word, 0))
            if last < 20 or (last < 100 and not 0 < number < 10):
                return None  # two six is no number
            part, last = part + number, number if number else 1
    return total + part


def wording(text: str) -> str:
    """A text as it is compared: without case, articles, quotes, and the endings of ordinals."""
    text = NOWHERE.sub("no solution", ORDINAL.sub(r"\1", text.casefold()))
    text = ARTICLE.sub("", re.sub(r"^(?:on|in|at) (?=[a-z]{3})", "", text))
    return re.sub(r"[\s,.'\"]+|(?<=[a-z])-(?=[a-z])", " ", text).strip()


def is_text(text: str) -> bool:
    """Whether `text` is words and no mathematics: east, no solution, May 4, ABC; but not ab, xyz or x."""
    if not TEXT.fullmatch(text):
        return False
    words = re.findall(r"[A-Za-z]+", text)
    return any(is_word(word, alone=len(text) == len(word)) for word in words)


def is_word(letters: str, alone: bool = False) -> bool:
    """Whether a run of letters is a word or a name, not a product of variables."""
    if len(letters) < 2:
        return False
    if len(letters) == 2:
        return letters.casefold() in SHORT_WORDS if alone or letters.islower() else alone
    run = "".join(sorted(set(letters)))
    if letters.islower() and len(letters) <= 4 and run in "abcdefghijklmnopqrstuvwxyz":
        return False  # abc, xyz, pqr
    if alone:
        return True
    return len(letters) > 4 or letters.isupper() or letters.istitle() or len(re.findall("[eiou]", letters)) > 0


def choice(text: str) -> tuple[str, str] | None:
    """(letter, what it stands for) of "C. 12", "(C) 12", "C) 12"."""
    found = CHOICE.match(text)
    if not found or ANOTHER.search(found[3]):
        return None
    return found[1] or found[2], found[3].strip()
