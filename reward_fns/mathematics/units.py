r"""What stands behind a number: a unit, a noun, or a word that changes the number. Text in, text out.

A unit is kept as `\unit{cm^2}`, since equal numbers of different units are different answers. Numbers are never
converted: 5 cm is not 50 mm.
"""

import re

from justrl_recipe.reward_fns.mathematics.words import CLOSE, OPEN, listed

# canonical name: its other names
ALIASES = {
    "mm": "millimeter millimetre",
    "cm": "centimeter centimetre",
    "dm": "decimeter decimetre",
    "m": "meter metre",
    "km": "kilometer kilometre",
    "in": "inch inche",
    "ft": "foot feet",
    "yd": "yard",
    "mi": "mile",
    "mg": "milligram",
    "g": "gram",
    "kg": "kilogram",
    "lb": "pound",
    "oz": "ounce",
    "ml": "milliliter millilitre",
    "l": "liter litre",
    "gal": "gallon",
    "s": "sec second",
    "min": "minute",
    "h": "hr hour",
    "yr": "year",
    "am": "a.m",
    "pm": "p.m",
    "degree": "deg",
    "radian": "rad",
    "K": "kelvin",
    "dollar": "usd buck",
    "cent": "¢",
    "euro": "eur",
    "N": "newton",
    "J": "joule",
    "W": "watt",
    "V": "volt",
    "A": "ampere amp",
    "Hz": "hertz hz",
    "Pa": "pascal",
    "mol": "mole",
    "mph": "mi/h",
    **dict.fromkeys(listed("day week month celsius fahrenheit gbp rpm"), ""),
}
NAMES = {name: unit for unit, names in ALIASES.items() for name in (unit, *names.split())}
# No units, since they change the number.
SCALES = {
    "hundred": r"\times 10^2",
    "thousand": r"\times 10^3",
    "million": r"\times 10^6",
    "billion": r"\times 10^9",
    "trillion": r"\times 10^{12}",
    "quadrillion": r"\times 10^{15}",
    "dozen": r"\times 12",
    **dict.fromkeys(("percent", "pct"), r"\%"),
    **dict.fromkeys(("half", "halves"), r"\times \frac{1}{2}"),
    "quarter": r"\times \frac{1}{4}",
    **{
        ordinal: rf"\times \frac{{1}}{{{number}}}"
        for number, ordinal in enumerate(listed("third fourth fifth sixth seventh eighth ninth tenth"), 3)
    },
    "hundredth": r"\times \frac{1}{100}",
    "thousandth": r"\times \frac{1}{1000}",
    "squared": "^2",
    "cubed": "^3",
    "factorial": "!",
}
# With one of these the words are no unit: they take back, add or compute.
NO_UNIT = set(
    listed(
        "or and maybe perhaps not no plus minus times over mod modulo base if when where unless for except but "
        "to more less than about either neither negative positive sqrt root log ln sin cos tan pi is are was as a an "
        "the at by approximately divided multiplied point points equals equal infinity undefined pairs pair score "
        "gross otherwise else none between through until least most one two three four five six seven eight nine ten "
        "eleven twelve lakh crore grand fold googol thou mil bn mn permille under "
        "squareroot root halve radical conjugate fewer"
    )
)
# Words for numbers that are not in SCALES.
NUMERAL = re.compile(
    r"(?i)\w*illi(?:on|ard)(?:th)?s?|\w*(?:teen|hundred|thousand|\bfif|six|seven|eigh|nin|\bten|eleven|twelf)ths?"
    r"|\w+tieths?|(?:tens?|ones?|scores?|lakhs?|crores?|milles?|ppm|ppb|ppt)"
)
NO_NOUN = {"units", "unit"}

WORDS = rf"(?:{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}|[A-Za-z¢]+(?![A-Za-z¢])\.?)"
POWER = r"(?:\s*\^\s*\{?\s*-?\d\s*\}?)?"
NUMBER_END = rf"(?:(?<=[\d)}}%{CLOSE}])|(?<=\\pi)|(?<=\\pi ))"
AT_THE_END = r"(?=[\s.]*(?:$|[,)\]=\d]|\\\}))"
BEHIND_A_NUMBER = re.compile(rf"{NUMBER_END}\s*{WORDS}{POWER}(?:[\s/·-]*{WORDS}{POWER})*{AT_THE_END}")
UNIT = re.compile(r" ?\\unit\{([^{}]*)\}")


def with_units(text: str) -> str:
    r"""`text` with `\unit{...}` for each unit or noun behind a number, and the product for a word such as million."""
    return BEHIND_A_NUMBER.sub(lambda found: _marked(found[0], text[found.end() :].lstrip()[:1].isdigit()), text)


def _marked(found: str, number_follows: bool) -> str:
    typed_as_text = OPEN in found
    words = re.sub(rf"[{OPEN}{CLOSE}{{}}]", " ", found)
    words = re.sub(r"\s*\^\s*", "^", words).strip()
    tokens = [token for part in re.split(r"\s+|(/)|-|·", words) if (token := (part or "").strip(".,;:'"))]
    if not tokens or not all(re.fullmatch(r"[A-Za-z¢.]+(?:\^-?\d)?|/", token) for token in tokens):
        return found
    if not typed_as_text and not _is_unit_as_typed(found, tokens):
        return found
    scale = ""
    while tokens and (singular := _singular(tokens[0].lower())) in SCALES:
        scale += SCALES[singular]
        tokens = tokens[1:]
        if tokens[:1] == ["of"]:
            tokens = tokens[1:]
    if tokens and tokens[-1].lower() in ("square", "sq", "cubic", "cu"):
        return found
    lower = [token.lower() for token in tokens]
    singulars = [_singular(token) for token in lower]
    letters = [name for token in tokens if len(name := token.split("^")[0]) == 1 and name != "/"]
    if (
        any(word in NO_UNIT or word in SCALES for word in (*singulars, *lower))
        or any(map(NUMERAL.fullmatch, tokens))
        or (number_follows and not all(singular in NAMES for singular in singulars))
        or any(letter not in NAMES for letter in letters)  # a variable in upright letters
    ):
        return found
    unit = canonical(tokens)
    return f"{scale} \\unit{{{unit}}}" if unit else scale or " "


def _is_unit_as_typed(found: str, tokens: list[str]) -> bool:
    """Whether words outside of text are one: `10cm`, `3 apples`, but not the variables of `3m`, `2ab`."""
    plain = [token.split("^")[0] for token in tokens if token != "/"]
    if all(_singular(token.lower()) in NAMES or token in NAMES for token in plain):
        longer = [len(token) > 1 for token in plain]
        return all(longer) or (any(longer) and "/" in tokens)
    first = plain[0] if plain else ""
    return found[0].isspace() and len(first) > 3 and first.islower()


def canonical(tokens: list[str]) -> str:
    """The one name of a unit or noun: square centimeters, cm^2 and sq cm are `cm^2`; plain "units" is no name."""
    sides: list[list[str]] = [[]]
    power = ""
    for token in tokens:
        word = token.lower()
        if word in ("per", "/"):
            sides.append([])
            power = ""
        elif word in ("square", "sq"):
            power = "^2"
        elif word in ("cubic", "cu"):
            power = "^3"
        elif word in ("degrees", "degree") and len(tokens) > 1:
            continue  # degrees Celsius
        elif word not in NO_NOUN:
            name, _, exponent = token.partition("^")
            name = NAMES.get(name) or NAMES.get(name.lower()) or NAMES.get(_singular(name.lower())) or name.lower()
            sides[-1].append(_singular(name) + (f"^{exponent}" if exponent else power))
            power = ""
    return NAMES.get(joined := "/".join(" ".join(side) for side in sides).strip("/"), joined)


def _singular(word: str) -> str:
    if word in NAMES or word in SCALES:
        return word
    for plural, singular in (("ies", "y"), ("ches", "ch"), ("xes", "x"), ("s", "")):
        if word.endswith(plural) and len(word) > len(plural) + 1 and not word.endswith("ss"):
            return word[: -len(plural)] + singular
    return word


def split(text: str) -> tuple[str, str]:
    """(what is measured, its unit or "") of one answer as `spelling.spelled` gives it."""
    found = UNIT.search(text)
    return (text[: found.start()].strip(), found[1]) if found and found.end() == len(text) else (text, "")


def without_units(text: str) -> str:
    """`text` without its units, as `spelling.spelled` marks them: what two answers of one number share."""
    return UNIT.sub("", text).strip()


def compatible(one: str, other: str) -> bool:
    """Whether equal numbers of these units are equal: units are the same, one side has none, or nouns overlap."""
    if not one or not other or one == other:
        return True
    first, second = set(one.split()), set(other.split())
    extra = {name.split("^")[0] for unit in first ^ second for name in unit.split("/")}
    return (first <= second or second <= first) and not extra & set(ALIASES)
