"""The words around an answer: labels, sentences that give it, clauses that restrict it. Text in, text out."""

import re

from justrl_recipe.reward_fns.mathematics.units import CLOSE, OPEN

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
