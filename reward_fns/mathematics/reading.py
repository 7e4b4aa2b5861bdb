r"""What kind of answer a text is: a number or expression, a list, a tuple, a set, an interval, an equation, a matrix.

Read from `spelling.spelled`'s output by its brackets, commas and relations; the expressions within stay text until
they are compared (equality.py).
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

OPENING, CLOSING = "([{", ")]}"
MAX_SIGNS = 4  # of \pm in one entry, each of which doubles it
RELATION = re.compile(r"<|>|\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])")
TURNED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}
SET_OPERATION = re.compile(r"\\(cup|cap|setminus)(?![a-z])")
RESIDUE = re.compile(r"^(?:(.+?)\s*(?:\\equiv|=)\s*)?(.+?)\s*\\pmod\{?(\d+)\}?$")
MATRIX = re.compile(
    r"^(.*?)[(\[]?\s*\\begin\{([pbBvV]?matrix|array)\}(?:\{[lcr| ]*\})?(.*)\\end\{\2\}\s*[)\]]?$", re.S
)
CASES = re.compile(r"^([^=]*=)?\s*\\begin\{cases\}(.*)\\end\{cases\}$", re.S)
LINE_BREAK = re.compile(r"\\\\(?:\s*\[[^\]]*\])?|\\cr(?![a-z])")
POINT = re.compile(r"^([A-Z](?:_\w)?'?)\s*(\([^()]+,[^()]+\))$")
BUILDER = re.compile(
    r"^\\\{\s*([A-Za-z](?:_\w)?|\\(?:alpha|theta|lambda))\s*"
    r"(?:\\in\s*\\mathbb\{?\s*R\s*\}?)?\s*(?:\\mid|\||:)\s*(.+?)\\\}$"
)
MEMBER = re.compile(r"^[A-Za-z](?:_\w|_\{\w+\})?\s*\\in(?![a-z])\s*(?=[(\[\\])(?!\\mathbb\{?[NZQ])(.+)$")
LETTER = r"(?:[A-Za-z]|\\[a-z]+)"
INDEX = r"(?:_(?:\w|\{[\w+\- ]+\}))?"
NAME = re.compile(  # x, x_1, \alpha; AB, radius; \angle ABC; |AB|, |z|; f(x), f^{-1}(x)
    rf"^(?:{LETTER}{INDEX}'?|[A-Za-z]{{2,}}|[A-Za-z ]{{4,}}|\\(?:angle|overline|triangle|widehat)\s*\{{?[A-Z]+\}}?"
    rf"|\|(?:[A-Z]{{2}}|[a-z])\||{LETTER}{INDEX}(?:\^\{{?-1\}}?)?\s*\([^()=]*\))$"
)


@dataclass(frozen=True)
class Value:
    """An expression, and its unit."""

    text: str


@dataclass(frozen=True)
class Equation:
    left: str
    right: "Answer"
    right_text: str

    @property
    def name(self) -> str | None:
        """What is given a value, as in x = 5 or f(x) = x^2; None for an equation."""
        return re.sub(r"[{}\s]", "", self.left) if NAME.fullmatch(self.left.strip()) else None


@dataclass(frozen=True)
class Group:
    """Entries between brackets, `opens` and `closes`; both empty for a bare list."""

    entries: tuple["Answer", ...]
    opens: str = ""
    closes: str = ""


@dataclass(frozen=True)
class Condition:
    """A chain of inequalities: sides, and the relations between them."""

    sides: tuple[str, ...]
    relations: tuple[str, ...]


@dataclass(frozen=True)
class Sets:
    """Sets joined by an operation; of a list of inequalities their context says which."""

    operation: str
    parts: tuple["Answer", ...]


@dataclass(frozen=True)
class Residue:
    name: str
    values: tuple[str, ...]
    modulus: int


@dataclass(frozen=True)
class Ratio:
    parts: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    factor: str
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Pieces:
    """A function by cases: values, and where each holds."""

    values: tuple["Answer", ...]
    conditions: tuple[str, ...]


Answer = Value | Equation | Group | Condition | Sets | Residue | Ratio | Matrix | Pieces


def read(text: str) -> Answer:
    """The answer that `text` writes; what is nothing else is a `Value`."""
    text = _stripped(text)
    if matrix := _matrix(text):
        return matrix
    if cases := CASES.match(text):
        return _cases((cases[1] or "").strip(), cases[2])
    if point := POINT.match(text):
        return Equation(point[1], read(point[2]), point[2])
    if member := MEMBER.match(text):
        return read(member[1])
    for word, operation in ((r"\\lor(?![a-z])", "cup"), (r"\\land(?![a-z])", "cap")):
        if joined := _top_level(re.compile(word), text):
            return Sets(operation, (read(text[: joined.start()]), read(text[joined.end() :])))
    if (builder := BUILDER.match(text)) and _top_level(RELATION, builder[2]) and _speaks_of(builder[2], builder[1]):
        return read(builder[2])
    if residue := RESIDUE.match(text):
        values = tuple(part.strip() for part in split(residue[2]))
        return Residue((residue[1] or "").strip(), values, int(residue[3]))
    entries = split(text)
    if len(entries) > 1:
        return _list(entries)
    if between := _top_level(SET_OPERATION, text):
        return Sets(between[1], (read(text[: between.start()]), read(text[between.end() :])))
    related = _top_level(RELATION, text)
    if ("\\pm" in text or "\\mp" in text) and not related:
        signs = _signed(text)
        if len(signs) > 1:
            return _list(signs)
    if related:
        return _chain(text)
    if group := _group(text):
        return group
    if _top_level(re.compile("="), text):
        return _equation(text)
    if ":" in text and re.fullmatch(r"[^:]+(?::[^:]+){1,3}", text) and "\\" not in text.split(":")[0][-1:]:
        return Ratio(tuple(part.strip() for part in text.split(":")))
    return Value(text)


def _speaks_of(condition: str, name: str) -> bool:
    """Whether a condition has `name` and no other variable."""
    letters = set(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?:_\w)?(?![A-Za-z])", condition)) - {"e", "i"}
    return letters == {name} or (name.startswith("\\") and name in condition and not letters)


def split(text: str, thousands: bool = True) -> list[str]:
    """The parts between commas outside of brackets; 1,234 stays a number, but not within brackets."""
    if thousands and re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?(\s*\\unit\{[^{}]*\})?", text):
        return [text]
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        if character == "," and depth <= 0:
            parts.append(text[start:place])
            start = place + 1
    return [part.strip() for part in [*parts, text[start:]] if part.strip()]


def _stripped(text: str) -> str:
    """`text` without the parentheses or braces that hold all of it, where it has no comma in them."""
    text = re.sub(r"(?<!\.)[.,]$", "", text.strip())
    while len(text) > 1 and text[0] in "({" and _closes(text) == len(text) - 1:
        inside = text[1:-1].strip()
        if len(split(inside, thousands=False)) != 1:
            return f"\\{{{inside}\\}}" if text[0] == "{" else text
        text = inside
    return text


def _closes(text: str) -> int:
    """Where the first bracket is closed, of whatever form: [1,2) is one interval."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        if depth == 0:
            return place
    return -1


def _top_level(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match outside of brackets."""
    depth, found = [0], None
    for character in text:
        depth.append(depth[-1] + (character in OPENING) - (character in CLOSING))
    for match in pattern.finditer(text):
        if depth[match.start()] == 0:
            found = match
    return found


def _group(text: str) -> Group | None:
    if text.startswith("\\{") and text.endswith("\\}"):
        return Group(_entries(text[2:-2]), "{", "}")
    if text in ("\\emptyset",):
        return Group((), "{", "}")
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and _closes(text) == len(text) - 1:
        inside = split(text[1:-1], thousands=False)
        if len(inside) > 1 or text[0] == "[" or text[-1] == "]":
            combinations = _tuples(inside)
            groups = tuple(Group(tuple(map(read, entries)), text[0], text[-1]) for entries in combinations)
            return groups[0] if len(groups) == 1 else Group(groups)
    return None


def _tuples(inside: list[str]) -> list[tuple[str, ...]]:
    """(0, \\pm 2) is two points."""
    return list(itertools.product(*(_signed(entry) for entry in inside)))


def _entries(text: str) -> tuple[Answer, ...]:
    answers: list[Answer] = []
    for entry in split(text, thousands=False):
        answer = read(entry)
        answers.extend(answer.entries if isinstance(answer, Group) and not answer.opens else [answer])
    return tuple(answers)


def _list(entries: Sequence[str]) -> Answer:
    if all(_top_level(RELATION, entry) for entry in entries):
        return Sets("list", tuple(read(entry) for entry in entries))
    answers: list[Answer] = []
    for entry in entries:
        answer = read(entry)
        answers.extend(answer.entries if isinstance(answer, Group) and not answer.opens else [answer])
    first, *rest = answers
    if isinstance(first, Equation) and first.name and all(isinstance(answer, Value) for answer in rest):
        named = [Equation(first.left, answer, answer.text) for answer in rest if isinstance(answer, Value)]
        return Group((first, *named))  # x = 1, 2
    return Group(tuple(answers))


def _signed(text: str) -> list[str]:
    r"""The texts that \pm stands for: each sign on its own, or where there is \mp, both together."""
    if text.count("\\pm") + text.count("\\mp") > MAX_SIGNS or ("\\pm" not in text and "\\mp" not in text):
        return [text]
    if "\\mp" in text:
        signs = (("+", "-"), ("-", "+"))
        return [text.replace("\\pm", plus).replace("\\mp", minus) for plus, minus in signs]
    head, *rest = text.split("\\pm")
    chosen = itertools.product("+-", repeat=len(rest))
    return [_plus(head + "".join(sign + part for sign, part in zip(signs, rest, strict=True))) for signs in chosen]


def _plus(text: str) -> str:
    return re.sub(r"(^|[=({,])\s*\+", r"\1", text)


def _equation(text: str) -> Answer:
    sides = [side.strip() for side in _split_all(text, "=")]
    if len(sides) == 2 and (named := _named_tuple(*sides)):
        return named
    left, right = " = ".join(sides[:-1]), sides[-1]
    return Equation(left, read(right), right)


def _split_all(text: str, separator: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        if character == separator and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _named_tuple(left: str, right: str) -> Group | None:
    """(x, y) = (1, 2) says x = 1 and y = 2."""
    if not (left.startswith("(") and left.endswith(")") and right.startswith("(") and right.endswith(")")):
        return None
    names, values = split(left[1:-1]), split(right[1:-1])
    if len(names) < 2 or len(names) != len(values) or not all(NAME.fullmatch(name) for name in names):
        return None
    pairs = zip(names, values, strict=True)
    return Group(tuple(Equation(name, read(value), value) for name, value in pairs), "(", ")")


def _chain(text: str) -> Answer:
    sides, relations, depth, start = [], [], 0, 0
    place = 0
    while place < len(text):
        character = text[place]
        depth += (character in OPENING) - (character in CLOSING)
        if depth == 0 and (relation := RELATION.match(text, place)):
            sides.append(text[start:place].strip())
            relations.append(relation[0])
            place = start = relation.end()
            continue
        place += 1
    return Condition((*sides, text[start:].strip()), tuple(relations))


def _cases(named: str, body: str) -> Answer:
    """A function by cases, or where each line says what a name is, their list."""
    rows = [row.strip(" ,;.") for row in LINE_BREAK.split(body) if row.strip()]
    if not named and not any("&" in row for row in rows):
        return _list(rows)
    pairs = [re.split(r"\s*,?\s*(?:&|(?<![A-Za-z])if(?![A-Za-z]))\s*", row, maxsplit=1) for row in rows]
    pieces = Pieces(
        tuple(read(pair[0]) for pair in pairs),
        tuple(re.sub(r"^(?:if|when|for|where)\s+|[,.]$", "", pair[-1]) if len(pair) > 1 else "" for pair in pairs),
    )
    return Equation(named.rstrip("= "), pieces, body) if named else pieces


def _matrix(text: str) -> Matrix | None:
    found = MATRIX.match(text)
    if not found or found[2] in ("vmatrix", "Vmatrix") or "\\begin" in found[3]:
        return None
    rows = [row for row in LINE_BREAK.split(found[3]) if row.strip().replace("\\hline", "")]
    factor = re.sub(r"^[A-Za-z]\s*=", "", found[1]).strip()  # A = ...
    return Matrix(factor, tuple(tuple(cell.strip() for cell in row.split("&")) for row in rows))
