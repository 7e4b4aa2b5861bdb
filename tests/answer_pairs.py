"""Pairs of answers that are unequal, or equal, by construction: for the property tests and for benchmarks/search.py.

Each generator takes a `random.Random` and gives (ground truth, answer). What makes a pair unequal is one change of
which the construction knows that it changes the answer.
"""

import random
from collections.abc import Callable, Iterator

Pair = tuple[str, str]
Generator = Callable[[random.Random], Pair]


def number(r: random.Random) -> str:
    """A closed form."""
    a, b, c = r.randint(2, 30), r.randint(2, 30), r.choice([2, 3, 5, 6, 7, 10, 11, 13])
    return r.choice(
        [
            str(r.randint(2, 10**6)),
            f"\\frac{{{a}}}{{{b}}}",
            f"{a}\\sqrt{{{c}}}",
            f"{a}+{b}\\sqrt{{{c}}}",
            f"\\frac{{{a}+\\sqrt{{{c}}}}}{{{b}}}",
            f"\\sqrt[3]{{{c}}}",
            f"\\frac{{{a}\\pi}}{{{b}}}",
            f"{a}\\pi-{b}",
            f"\\ln {a}",
            f"e^{{{r.randint(2, 5)}}}",
            f"\\sin\\frac{{\\pi}}{{{b}}}",
            f"{c}^{{{r.randint(30, 90)}}}",
            f"\\frac{{1}}{{{c}^{{{r.randint(30, 90)}}}}}",
            f"\\log_{{{c}}}{a + 30}",
            f"\\sqrt{{{a}+\\sqrt{{{c}}}}}",
            f"{a}!",
        ]
    )


def tiny(r: random.Random) -> str:
    return r.choice(
        [
            f"\\frac{{1}}{{{r.randint(2, 9)}^{{{r.randint(5, 90)}}}}}",
            f"10^{{-{r.randint(3, 60)}}}",
            f"0.{'0' * r.randint(3, 20)}{r.randint(1, 9)}",
            f"{r.randint(1, 9)}\\times 10^{{-{r.randint(3, 40)}}}",
        ]
    )


def polynomial(r: random.Random, names: str = "xnkab") -> tuple[str, str, list[int]]:
    """(text, its variable, its coefficients from the highest)."""
    name = r.choice(names)
    coefficients = [r.randint(1, 9), *(r.randint(-9, 9) for _ in range(r.randint(1, 3)))]
    return _polynomial(name, coefficients), name, coefficients


def _polynomial(name: str, coefficients: list[int]) -> str:
    degree = len(coefficients) - 1
    terms = [
        f"{c:+d}" + (f"{name}^{degree - place}" if degree - place > 1 else name * (degree - place))
        for place, c in enumerate(coefficients)
        if c
    ]
    return "".join(terms).removeprefix("+") or "0"


# Unequal pairs.


def near_number(r: random.Random) -> Pair:
    gold = number(r)
    return gold, f"{gold}{r.choice('+-')}{tiny(r)}"


def near_decimal(r: random.Random) -> Pair:
    gold = str(r.randint(2, 10**7))
    return gold, r.choice(
        [f"{gold}.{'0' * r.randint(0, 9)}{r.randint(1, 9)}", f"{int(gold) - 1}.{'9' * r.randint(1, 9)}"]
    )


def near_by_a_product(r: random.Random) -> Pair:
    gold = r.randint(10**5, 10**9)
    return str(gold), f"{gold - r.choice([1, 2])}.0\\cdot 1"


def near_large(r: random.Random) -> Pair:
    base, power = r.randint(2, 9), r.randint(40, 300)
    return f"{base}^{{{power}}}", f"{base}^{{{power}}}{r.choice('+-')}{r.randint(1, 10**6)}"


def near_fraction(r: random.Random) -> Pair:
    base, power = r.choice([3, 5, 7]), r.randint(20, 120)
    return f"\\frac{{1}}{{{base}^{{{power}}}}}", f"\\frac{{1}}{{{base}^{{{power + r.randint(1, 5)}}}}}"


def near_in_a_group(r: random.Random) -> Pair:
    gold, pred = r.choice([near_number, near_fraction, near_large])(r)
    other = str(r.randint(1, 9))
    opens, closes = r.choice(["()", "[]", "(]", "[)", (r"\{", r"\}"), ("", "")])
    first = r.random() < 0.5
    entries = [(text, other) if first else (other, text) for text in (gold, pred)]
    return tuple(f"{opens}{a},{b}{closes}" for a, b in entries)  # type: ignore[return-value]


def literal_for_a_letter(r: random.Random) -> Pair:
    gold = r.choice([r.choice("ABCDE"), r.choice("xynkmpt"), polynomial(r)[0], "a+b", "2^n", "\\sin x", "f(x)=x^2"])
    return gold, r.choice(
        [
            f"{r.uniform(-20, 20):.{r.randint(3, 9)}f}",
            f"\\frac{{{r.randint(1, 200)}}}{{{r.randint(2, 99)}}}",
            number(r),
        ]
    )


def other_coefficient(r: random.Random) -> Pair:
    gold, name, coefficients = polynomial(r)
    place = r.randrange(len(coefficients))
    changed = [c + (r.choice([-1, 1, 2]) if at == place else 0) for at, c in enumerate(coefficients)]
    return (gold, _polynomial(name, changed)) if changed[0] else (gold, gold + tiny(r).join("+ "))


def vanishing_change(r: random.Random) -> Pair:
    gold, name, _ = polynomial(r)
    roots = [f"({name}-\\frac{{{r.randint(1, 150)}}}{{{r.randint(2, 99)}}})" for _ in range(r.randint(1, 3))]
    return gold, f"{gold}+{r.choice(['', tiny(r)])}{''.join(roots)}"


def other_letter(r: random.Random) -> Pair:
    gold, name, coefficients = polynomial(r)
    return gold, _polynomial(r.choice([letter for letter in "xyzmt" if letter != name]), coefficients)


def degenerate(r: random.Random) -> Pair:
    gold = r.choice(
        [f"{polynomial(r)[0]}=0", f"y={polynomial(r, 'x')[0]}", f"x>{number(r)}", "\\emptyset", polynomial(r)[0]]
    )
    nothing = [
        "0=0",
        "1=0",
        "1=1",
        "x=x",
        "1<2",
        "2<1",
        "0",
        "\\infty",
        "0/0",
        "1/0",
        "()",
        "\\{\\emptyset\\}",
        "x^2+1=0",
    ]
    return gold, r.choice([*nothing, "x<x", "\\pm 0", "x^2<0", "x\\ne x", "\\%", "-", "=", "\\text{or}", "[0,0]"])


def other_equation(r: random.Random) -> Pair:
    _, name, coefficients = polynomial(r, "x")
    changed = [*coefficients[:-1], coefficients[-1] + r.choice([-2, -1, 1, 2])]
    factor = r.choice([1, 2, -3])
    return f"{_polynomial(name, coefficients)}=0", f"{_polynomial(name, [factor * c for c in changed])}=0"


def swapped_names(r: random.Random) -> Pair:
    a, b = r.sample(range(-20, 21), 2)
    x, y = r.choice([("x", "y"), ("m", "n"), ("p", "q"), ("a", "b")])
    gold = r.choice([f"({x},{y})=({a},{b})", f"{x}={a},{y}={b}"])
    return gold, r.choice([f"({y},{x})=({a},{b})", f"{x}={b},{y}={a}", f"({b},{a})" if "(" in gold else f"{b},{a}"])


WORDS = ["east", "west", "even", "odd", "yes", "no", "Evelyn", "parabola", "true", "false", "ABC", "acute", "neither"]


def shuffled_word(r: random.Random) -> Pair:
    gold = r.choice(WORDS)
    while (letters := "".join(r.sample(gold, len(gold)))).casefold() == gold.casefold():
        pass
    return r.choice([gold, f"\\text{{{gold}}}"]), r.choice(
        [letters, " ".join(gold), f"\\text{{{letters}}}", gold[:-1]]
    )


UNITS = [
    ["cm", "m", "km", "inches", "feet"],
    ["cm^2", "m^2", "square feet", "cm^3", "cm"],
    ["dollars", "cents", "euros"],
    ["degrees", "radians"],
    ["hours", "minutes", "seconds", "days"],
    ["apples", "oranges"],
    ["km/h", "m/s", "mph"],
]


def other_unit(r: random.Random) -> Pair:
    value, (one, other) = r.randint(1, 500), r.sample(r.choice(UNITS), 2)
    return f"{value}\\text{{ {one}}}", f"{value}\\text{{ {other}}}"


def changed_number(r: random.Random) -> Pair:
    value = r.choice([str(r.randint(2, 500)), f"\\frac{{{r.randint(1, 9)}}}{{10}}"])
    words = (
        "million,thousand,hundred,dozen,billion,tenths,halves,thirds,squared,factorial,or more,or maybe 4,or 4,plus 1"
    )
    changes = [
        *(f"\\text{{ {word}}}" for word in words.split(",")),
        "i",
        "x",
        "^2",
        "\\pi",
        "_2" if "f" not in value else "e",
    ]
    change = r.choice(changes)
    if change == "_2" or (change == "i" and r.random() < 0.5):
        change = "e"
    return value, value + change


def other_multiplicity(r: random.Random) -> Pair:
    values = [str(r.randint(-9, 9)) for _ in range(r.randint(2, 4))]
    more = [*values, r.choice(values)]
    r.shuffle(more)
    pair = (",".join(values), ",".join(more))
    return pair if r.random() < 0.5 else (pair[1], pair[0])


def other_brackets(r: random.Random) -> Pair:
    low = r.randint(-9, 5)
    high = low + r.randint(1, 9)
    one, other = r.sample(["()", "[]", "(]", "[)"], 2)
    return f"{one[0]}{low},{high}{one[1]}", f"{other[0]}{low},{high}{other[1]}"


def other_residue(r: random.Random) -> Pair:
    modulus = r.randint(3, 20)
    value = r.randrange(modulus)
    other = r.choice([v for v in range(modulus) if v != value])
    return f"n\\equiv {value}\\pmod{{{modulus}}}", f"n\\equiv {other + modulus * r.randint(0, 3)}\\pmod{{{modulus}}}"


def other_matrix(r: random.Random) -> Pair:
    cells = [r.randint(-9, 9) for _ in range(4)]
    changed = list(cells)
    changed[r.randrange(4)] += r.choice([-1, 1])
    form = "\\begin{{pmatrix}}{}&{}\\\\{}&{}\\end{{pmatrix}}"
    return form.format(*cells), form.format(*changed)


UNEQUAL: list[Generator] = [
    near_number,
    near_decimal,
    near_by_a_product,
    near_large,
    near_fraction,
    near_in_a_group,
    literal_for_a_letter,
    other_coefficient,
    vanishing_change,
    other_letter,
    degenerate,
    other_equation,
    swapped_names,
    shuffled_word,
    other_unit,
    changed_number,
    other_multiplicity,
    other_brackets,
    other_residue,
    other_matrix,
]


# Equal pairs, rewritten mechanically.


def rewritten_number(r: random.Random) -> Pair:
    gold, n, c = number(r), r.randint(2, 9), r.choice([2, 3, 5, 7])
    return gold, r.choice(
        [
            f"{n}+{gold}-{n}",
            f"\\frac{{{n}({gold})}}{{{n}}}",
            f"\\sqrt{{{c}}}\\cdot\\frac{{{gold}}}{{\\sqrt{{{c}}}}}",
            f"\\frac{{1}}{{\\frac{{1}}{{{gold}}}}}",
            f"\\left({gold}\\right)",
            f"{gold}+\\sqrt{{{c}}}-\\frac{{{c}}}{{\\sqrt{{{c}}}}}",
            f"$ {gold} $",
            f"\\boxed{{{gold}}}",
        ]
    )


def denested(r: random.Random) -> Pair:
    a, b = r.sample([2, 3, 5, 6, 7, 10, 11, 13], 2)
    return f"\\sqrt{{{a}}}+\\sqrt{{{b}}}", f"\\sqrt{{{a + b}+2\\sqrt{{{a * b}}}}}"


def rationalised(r: random.Random) -> Pair:
    a, c = r.randint(2, 30), r.choice([2, 3, 5, 7, 11])
    return f"\\frac{{{a}}}{{\\sqrt{{{c}}}}}", f"\\frac{{{a}\\sqrt{{{c}}}}}{{{c}}}"


def identity(r: random.Random) -> Pair:
    n = r.randint(2, 40)
    return r.choice(
        [
            (f"\\cos\\frac{{\\pi}}{{{n}}}", f"\\sin(\\frac{{\\pi}}{{2}}-\\frac{{\\pi}}{{{n}}})"),
            (f"\\ln {n * n}", f"2\\ln {n}"),
            (f"\\log_{{{n}}}{{{n + 1}}}", f"\\frac{{\\ln {n + 1}}}{{\\ln {n}}}"),
            (f"\\arctan\\frac{{1}}{{{n}}}", f"\\frac{{\\pi}}{{2}}-\\arctan {n}"),
            (f"\\sin {n}x", f"\\cos({n}x-\\frac{{\\pi}}{{2}})"),
            (f"\\sin^2 {n}x", f"1-\\cos^2 {n}x"),
            (f"e^{{{n}x}}", f"(e^x)^{{{n}}}"),
            (f"{n}^{{k+1}}", f"{n}\\cdot {n}^k"),
            (f"\\binom{{{n + 5}}}{{3}}", f"\\frac{{({n + 5})({n + 4})({n + 3})}}{{6}}"),
            (f"\\frac{{1}}{{n}}-\\frac{{1}}{{n+{n}}}", f"\\frac{{{n}}}{{n(n+{n})}}"),
            (f"\\sqrt{{{n * n}x^2+{n * n}}}", f"{n}\\sqrt{{x^2+1}}"),
        ]
    )


def rewritten_polynomial(r: random.Random) -> Pair:
    gold, name, coefficients = polynomial(r)
    nested = "0"
    for c in coefficients:
        nested = f"({nested}){name}{c:+d}"
    return gold, r.choice(
        [nested, f"\\frac{{{_polynomial(name, [3 * c for c in coefficients])}}}{{3}}", f"-(-({gold}))"]
    )


def scaled_equation(r: random.Random) -> Pair:
    _, name, coefficients = polynomial(r, "x")
    factor, moved = r.choice([2, 3, -1, -5]), r.randint(1, 9)
    scaled = [factor * c for c in coefficients]
    scaled[-1] += moved
    return f"{_polynomial(name, coefficients)}=0", f"{_polynomial(name, scaled)}={moved}"


def permuted(r: random.Random) -> Pair:
    values = [number(r) for _ in range(r.randint(2, 4))]
    other = r.sample(values, len(values))
    braces = r.random() < 0.4
    return tuple(f"\\{{{', '.join(v)}\\}}" if braces else ", ".join(v) for v in (values, other))  # type: ignore


def interval_as_inequality(r: random.Random) -> Pair:
    low = r.randint(-9, 5)
    high = low + r.randint(1, 9)
    signs = {"(": "<", "[": "\\le ", ")": "<", "]": "\\le "}
    opens, closes = r.choice("(["), r.choice(")]")
    condition = f"{low}{signs[opens]}x{signs[closes]}{high}"
    return f"{opens}{low},{high}{closes}", r.choice(
        [condition, f"\\{{x \\mid {condition}\\}}", f"x\\in{opens}{low},{high}{closes}"]
    )


def with_or_without_unit(r: random.Random) -> Pair:
    value, unit = r.randint(1, 500), r.choice(r.choice(UNITS))
    pair = (str(value), f"{value}\\text{{ {unit}}}")
    return pair if r.random() < 0.5 else (pair[1], pair[0])


def as_a_decimal(r: random.Random) -> Pair:
    n, places = r.randint(1, 10**6), r.randint(1, 4)
    return f"\\frac{{{n}}}{{{10**places}}}", f"{n / 10**places:.{places}f}"


def named_tuple(r: random.Random) -> Pair:
    a, b = r.randint(-20, 20), r.randint(-20, 20)
    return f"(x,y)=({a},{b})", r.choice([f"({a},{b})", f"x={a},y={b}", f"y={b}, x={a}", f"(y,x)=({b},{a})"])


def other_residue_of_the_class(r: random.Random) -> Pair:
    modulus = r.randint(3, 20)
    value = r.randrange(modulus)
    return f"n\\equiv {value}\\pmod{{{modulus}}}", f"n \\equiv {value + modulus * r.randint(1, 4)} \\pmod {modulus}"


def sentence(r: random.Random) -> Pair:
    gold = number(r)
    return gold, r.choice(
        ["The answer is {}", "\\text{{The value is }} {}", "Therefore, the total equals ${}$."]
    ).format(gold)


EQUAL: list[Generator] = [
    rewritten_number,
    denested,
    rationalised,
    identity,
    rewritten_polynomial,
    scaled_equation,
    permuted,
    interval_as_inequality,
    with_or_without_unit,
    as_a_decimal,
    named_tuple,
    other_residue_of_the_class,
    sentence,
]


def pairs(generators: list[Generator], count: int, seed: int | None = None) -> Iterator[tuple[str, str, str]]:
    """(kind, ground truth, answer), of each generator in turn."""
    r = random.Random(seed)
    for place in range(count):
        generator = generators[place % len(generators)]
        gold, pred = generator(r)
        if gold != pred or generators is EQUAL:
            yield generator.__name__, gold, pred
