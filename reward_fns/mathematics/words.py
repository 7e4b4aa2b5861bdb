"""Words: which texts are words, choices or denials, numbers in words, and the sentences around an answer.

Text in, text out.
"""

import re

OPEN, CLOSE = "⟦", "⟧"  # around what was typed as text, \text{...}

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


def key(text: str) -> str:
    """`text` as it is compared exactly: no space but between digits; words as `wording` has them."""
    return wording(text) if is_text(text) else re.sub(r"(?<!\d) | (?!\d)", "", text)


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


# --- the sentences around an answer

SPACE = rf"[\s{OPEN}{CLOSE}]*"
LABEL = re.compile(
    rf"^(?:[\s,*{OPEN}{CLOSE}]*(?:the|my|so|thus|hence|therefore)\b)*[\s,*{OPEN}{CLOSE}]*(?:final\s+)?answer\b(?:\s+is\b)?[\s:={CLOSE}]*"
    rf"|^[\s*{OPEN}{CLOSE}]*(?:so|thus|hence|therefore|then|we get|we have)\b[\s,:{CLOSE}]*",
    re.I,
)
VERB = re.compile(
    rf"(?<=[\s{CLOSE}])(?:is equal to|is|are|equals|equal to|was|be){SPACE}(?=\S)(?<=[\s{CLOSE}{OPEN}])"
)
SENTENCE = re.compile(rf"^{OPEN}?[A-Z]?[a-z]+[\s{CLOSE}{OPEN}]")
SENTENCE_LINE = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{3,}")
HEDGE = re.compile(
    r"\b(?:not|no|never|cannot|if|when|unless|but|maybe|perhaps|either|neither|whereas|while|might|or)\b|n't"
)
INEQUALITY = re.compile(r"[<>]|\\(?:le|ge|ne)(?![a-z])")
BOTH = re.compile(rf",?{SPACE}(?<![A-Za-z])and(?![A-Za-z]){SPACE}")
EITHER = re.compile(BOTH.pattern.replace("and", "or"))
INTEGERS = re.compile(
    rf"(?<=\S){SPACE},?{SPACE}(?:(?:where|for|with)\s)?{SPACE}\(?([a-z])\s*\\in\s*\\mathbb\{{?\s*[ZN]\s*\}}?[\^_+]*\)?{SPACE}$"
)
EVERYWHERE = re.compile(
    rf"(?<=\S){SPACE},?{SPACE}(?:for (?:all|every|each|any)|\\forall)(?![A-Za-z]){SPACE}"
    rf"(?:(?:real|positive|integers?|numbers?)\s)*{SPACE}[a-z]{SPACE}(?:\\in\s*\\mathbb\{{?[NZR]\}}?[\^_+*]*)?{SPACE}$"
)
MULTIPLES = re.compile(  # n = 4k + 1, k an integer
    rf"^([a-z])\s*=\s*(?:(\d+)\s*\+\s*)?(\d+)([a-z])(?:\s*([+-]\s*\d+))?{SPACE},?{SPACE}(?:(?:where|for|with)\s)?{SPACE}"
    rf"\(?\4\s*\\in\s*\\mathbb\{{?\s*Z\s*\}}?\)?{SPACE}$"
)


def last_line(text: str) -> str:
    """The last line below lines of words; where a line above it may be an answer, all of them as one."""
    *above, last = [line for line in text.splitlines() if line.strip()] or [""]
    return last if all(SENTENCE_LINE.search(line) for line in above) else " ".join([*above, last])


def without_sentence(text: str) -> str:
    """What a label such as "the answer is", or a sentence with one verb, says something to be.

    The text itself where it is no sentence, or one that takes itself back.
    """
    text = LABEL.sub("", text.strip()).lstrip(" ,:")
    verbs = list(VERB.finditer(text)) if SENTENCE.match(text) and not HEDGE.search(text) else []
    if len(verbs) != 1:
        return text
    value = text[verbs[0].end() :].strip(" :")
    if CLOSE in value.partition(OPEN)[0]:  # of the text that holds the sentence
        value = value.replace(CLOSE, "", 1).strip(" :")
    return value or text


def without_clauses(text: str) -> str:
    r"""`text` without the clauses behind it that say nothing, and with `\lor` and `\land` between inequalities."""
    text = MULTIPLES.sub(_residue, text)
    if INEQUALITY.search(text):  # the clause says which of the numbers, and a comma may be either word
        return EITHER.sub(r" \\lor ", BOTH.sub(r" \\land ", text))
    return INTEGERS.sub(_without_clause, EVERYWHERE.sub("", text))


def _without_clause(found: re.Match[str]) -> str:
    r"""Nothing for `, k \in \mathbb{Z}` where the answer has a k; else the clause, which restricts the answer."""
    return "" if re.search(rf"(?<![\\A-Za-z]){found[1]}(?![A-Za-z])", found.string[: found.start()]) else found[0]


def _residue(found: re.Match[str]) -> str:
    name, before, modulus, _, after = found.groups()
    return f"{name} \\equiv {int(before or 0) + int(''.join((after or '0').split()))} \\pmod{{{modulus}}}"
