r"""The kinds of answers, and which of them a text is: `spelling.spelled`'s output in, an `Answer` out.

It is read by its brackets, commas and relations. The expressions within stay text until they are compared.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from justrl_recipe.reward_fns.mathematics.brackets import cut, enclosed, outside

TURNED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le", r"\ne": r"\ne"}  # a relation read from the right
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
REALS = Value(r"\mathbb{R}")


# --- reading

MAX_SIGNS = 4  # of \pm in one entry, each of which doubles it
COMMA, EQUALS = re.compile(","), re.compile("=")
EITHER, BOTH = re.compile(r"\\lor(?![a-z])"), re.compile(r"\\land(?![a-z])")
RELATION = re.compile(r"<|>|\\le(?![a-z])|\\ge(?![a-z])|\\ne(?![a-z])")
SET_OPERATION = re.compile(r"\\(cup|cap|setminus)(?![a-z])")
THOUSANDS = re.compile(r"-?\d{1,3}(,\d{3})+(\.\d+)?(\s*\\unit\{[^{}]*\})?")
RESIDUE = re.compile(r"^(?:(.+?)\s*(?:\\equiv|=)\s*)?(.+?)\s*\\pmod\{?(\d+)\}?$")
RATIO = re.compile(r"[^:]*[^:\\](?::[^:]+){1,3}")
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
    for word, operation in ((EITHER, "cup"), (BOTH, "cap")):
        if joined := outside(word, text):
            return Sets(operation, _both_sides(text, joined[-1]))
    if (builder := BUILDER.match(text)) and outside(RELATION, builder[2]) and _speaks_of(builder[2], builder[1]):
        return read(builder[2])
    if residue := RESIDUE.match(text):
        return Residue((residue[1] or "").strip(), tuple(split(residue[2])), int(residue[3]))
    entries = split(text)
    if len(entries) > 1:
        return _list(entries)
    if operations := outside(SET_OPERATION, text):
        return Sets(operations[-1][1], _both_sides(text, operations[-1]))
    if relations := outside(RELATION, text):
        return Condition(tuple(cut(text, relations)), tuple(relation[0] for relation in relations))
    signs = _signed(text)
    if len(signs) > 1:
        return _list(signs)
    if group := _group(text):
        return group
    if equals := outside(EQUALS, text):
        return _equation(cut(text, equals))
    if RATIO.fullmatch(text):
        return Ratio(tuple(part.strip() for part in text.split(":")))
    return Value(text)


def split(text: str) -> list[str]:
    """The parts between commas outside of brackets; 1,234 stays a number."""
    return [text] if THOUSANDS.fullmatch(text) else _entries(text)


def _entries(inside: str) -> list[str]:
    """The parts between commas within brackets, where 1,234 is two numbers."""
    return [part for part in cut(inside, outside(COMMA, inside, unbalanced=True)) if part]


def _both_sides(text: str, between: re.Match[str]) -> tuple[Answer, Answer]:
    return read(text[: between.start()]), read(text[between.end() :])


def _speaks_of(condition: str, name: str) -> bool:
    """Whether a condition has `name` and no other variable."""
    letters = set(re.findall(r"(?<![\\A-Za-z])[A-Za-z](?:_\w)?(?![A-Za-z])", condition)) - {"e", "i"}
    return letters == {name} or (name.startswith("\\") and name in condition and not letters)


def _stripped(text: str) -> str:
    """`text` without the parentheses or braces that hold all of it, where it has no comma in them."""
    text = re.sub(r"(?<!\.)[.,]$", "", text.strip())
    while text.startswith(("(", "{")) and enclosed(text):
        inside = text[1:-1].strip()
        if len(_entries(inside)) != 1:
            return f"\\{{{inside}\\}}" if text[0] == "{" else text
        text = inside
    return text


def _group(text: str) -> Group | None:
    if text.startswith("\\{") and text.endswith("\\}"):
        return Group(_flat(_entries(text[2:-2])), "{", "}")
    if text == "\\emptyset":
        return Group((), "{", "}")
    if len(text) > 2 and text[0] in "([" and text[-1] in ")]" and enclosed(text):
        inside = _entries(text[1:-1])
        if len(inside) > 1 or text[0] == "[" or text[-1] == "]":
            tuples = itertools.product(*map(_signed, inside))  # (0, \pm 2) is two points
            groups = tuple(Group(tuple(map(read, entries)), text[0], text[-1]) for entries in tuples)
            return groups[0] if len(groups) == 1 else Group(groups)
    return None


def _flat(entries: Iterable[str]) -> tuple[Answer, ...]:
    r"""The answers that the entries of a list or set write; of `\pm` each."""
    found: list[Answer] = []
    for answer in map(read, entries):
        found.extend(answer.entries if isinstance(answer, Group) and not answer.opens else [answer])
    return tuple(found)


def _list(entries: list[str]) -> Answer:
    if all(outside(RELATION, entry) for entry in entries):
        return Sets("list", tuple(map(read, entries)))
    answers = _flat(entries)
    first, *rest = answers
    if isinstance(first, Equation) and first.name and all(isinstance(answer, Value) for answer in rest):
        named = [Equation(first.left, answer, answer.text) for answer in rest if isinstance(answer, Value)]
        return Group((first, *named))  # x = 1, 2
    return Group(answers)


def _signed(text: str) -> list[str]:
    r"""The texts that \pm stands for: each sign on its own, or where there is \mp, both together."""
    if text.count("\\pm") + text.count("\\mp") > MAX_SIGNS:
        return [text]
    if "\\mp" in text:
        signs = (("+", "-"), ("-", "+"))
        return [text.replace("\\pm", plus).replace("\\mp", minus) for plus, minus in signs]
    head, *rest = text.split("\\pm")
    if not rest:
        return [text]
    chosen = itertools.product("+-", repeat=len(rest))
    texts = (head + "".join(sign + part for sign, part in zip(signs, rest, strict=True)) for signs in chosen)
    return [re.sub(r"(^|[=({,])\s*\+", r"\1", signed) for signed in texts]


def _equation(sides: list[str]) -> Answer:
    if len(sides) == 2 and (named := _named_tuple(*sides)):
        return named
    left, right = " = ".join(sides[:-1]), sides[-1]
    return Equation(left, read(right), right)


def _named_tuple(left: str, right: str) -> Group | None:
    """(x, y) = (1, 2) says x = 1 and y = 2."""
    if not all(side.startswith("(") and side.endswith(")") for side in (left, right)):
        return None
    names, values = split(left[1:-1]), split(right[1:-1])
    if len(names) < 2 or len(names) != len(values) or not all(map(NAME.fullmatch, names)):
        return None
    pairs = zip(names, values, strict=True)
    return Group(tuple(Equation(name, read(value), value) for name, value in pairs), "(", ")")


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
