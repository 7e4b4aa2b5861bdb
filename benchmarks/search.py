"""What a policy could find: a search for wrong answers that the robust verifier accepts.

    .venv/bin/python benchmarks/search.py [--tries 100000] [--seed N]

Answers are built from `PIECES`: constants, small words, empty and degenerate objects, none of which says anything
of the ground truths in `GOLDS`. They are mutated, and those that came further (accepted, or read as the same kind
of answer) are mutated on. Each accepted answer is a finding, printed with its ground truth. A second search changes
ground truths by moves that change what they say. It prints what was accepted, for a person to judge: a move may
happen to change nothing.
"""

import argparse
import os
import random
from concurrent.futures import ThreadPoolExecutor

from justrl_recipe.reward_fns.mathematics.reading import read
from justrl_recipe.reward_fns.mathematics.spelling import spelled
from justrl_recipe.reward_fns.robust_verifier import compute_score

GOLDS = [
    "D",
    "(D)",
    "k",
    "k^2+83k",
    "2^k",
    "\\sin k",
    "\\frac{k}{j+k}",
    "90817",
    "-90817",
    "\\frac{4127}{93}",
    "83\\sqrt{41}",
    "\\frac{\\pi}{83}",
    "\\frac{1}{83^{60}}",
    "\\approx 83.41",
    "8.3417\\times 10^{17}",
    "83.4127",
    "(-83,4127]",
    "(-\\infty,-83)\\cup(41,\\infty)",
    "83,41,41",
    "(83,-41)",
    "\\{83,41\\}",
    "(k,j)=(83,41)",
    "k=83,j=41",
    "k=83",
    "f(k)=k^2+83",
    "k^2-83k+4127=0",
    "j=83k+41",
    "k>83",
    "83\\le k\\le 90",
    "\\begin{pmatrix}83&41\\\\7&2\\end{pmatrix}",
    "\\text{walrus}",
    "\\text{no}",
    "83\\text{ cm}",
    "\\$83.41",
    "83^\\circ",
    "83\\%",
    "k\\equiv 41\\pmod{83}",
    "1011_2",
    "83:41",
    "83\\pm\\sqrt{41}",
    "83+41i",
]
_PIECES = r"""
0 1 2 -1 \frac{1}{2} 0.5 0.731959 \frac{71}{97} 10^{-9} 1e9 \pi e i \infty \sqrt{2} 3.14159 \% 0/0 1/0
x y n x=x 0=0 1=0 x<x 1<2 x>0 \emptyset \{\} () [] \mathbb{R} (-\infty,\infty) (0,0) [0,0] x\ne x
\text{or} \text{and} \text{no} \text{not} the any all none answer true maybe is \unit{} \text{cm} , ; : = < > \le
+ - \cdot / ^ _ ! | ( ) { } [ ] \{ \} \pm \mp \cup \cap \setminus \in \mid \equiv \pmod{1} \pmod{0}
\approx \ldots \boxed{} \boxed{0} $ $$ \ \\ \begin{pmatrix}\end{pmatrix} & \dots _{1} _1 A. (A) ' " ~ ? * 或
x>2 y<3 x=1 y=2 a<b c\ge0 \lor \land (8-n)! n! \infty:\infty 0:0 x:x [x] f(x)= n=2k \text{if} \nabla |x| \sqrt{x^2}
\sin \ln \log_1 \lim_{x\to0} \int_0^0 \sum_{x=1}^0 \binom{0}{0} \lfloor \rfloor \gcd \max \min 0^0 x^0
"""
PIECES = _PIECES.split()


def answer(r: random.Random) -> list[str]:
    return [r.choice(PIECES) for _ in range(r.randint(1, 5))]


def mutated(r: random.Random, pieces: list[str], others: list[list[str]]) -> list[str]:
    pieces = list(pieces)
    place = r.randrange(len(pieces) + 1)
    move = r.randrange(4)
    if move == 0:
        pieces.insert(place, r.choice(PIECES))
    elif move == 1 and pieces:
        del pieces[min(place, len(pieces) - 1)]
    elif move == 2 and pieces:
        pieces[min(place, len(pieces) - 1)] = r.choice(PIECES)
    else:
        other = r.choice(others)
        pieces = pieces[:place] + other[r.randrange(len(other) + 1) :]
    return pieces[:8] or [r.choice(PIECES)]


def accepted(gold: str, pred: str) -> bool:
    return compute_score("search", f"\\boxed{{{pred}}}", gold)["acc"]


def kind(text: str) -> str:
    return type(read(spelled(text))).__name__


def nearness(gold: str, pred: str) -> float:
    """How far an answer that was not accepted came: read as the same kind, with the same letters and size."""
    same = kind(gold) == kind(pred)
    return same + 0.5 * (set(gold) >= set(pred)) + 0.1 * (len(pred) < 2 * len(gold))


def search(r: random.Random, tries: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    population = [answer(r) for _ in range(200)]
    done = 0
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        while done < tries:
            batch = [(r.choice(GOLDS), mutated(r, r.choice(population), population)) for _ in range(400)]
            texts = [(gold, r.choice(["", " "]).join(pieces)) for gold, pieces in batch]
            scores = list(pool.map(lambda pair: accepted(*pair), texts))
            for (gold, pieces), (_, text), score in zip(batch, texts, scores, strict=True):
                if score:
                    found.append((gold, text))
                elif nearness(gold, text) > r.random() * 2:
                    population[r.randrange(len(population))] = pieces
            population[r.randrange(len(population))] = answer(r)
            done += len(batch)
    return found


def changed(r: random.Random, gold: str) -> str:
    """`gold` with one to three moves that change what it says, most of the time."""
    text = gold
    for _ in range(r.randint(1, 3)):
        place = r.randrange(len(text) + 1)
        move = r.randrange(5)
        if move == 0:
            text = text[:place] + r.choice(PIECES) + text[place:]
        elif move == 1:
            text = text[:place] + text[place + 1 :]
        elif move == 2:
            text = r.choice(PIECES) + text
        elif move == 3:
            text = text + r.choice(PIECES)
        else:
            digit = r.choice("0123456789")
            text = text[:place] + digit + text[place + 1 :]
    return text


def search_near(r: random.Random, tries: int) -> list[tuple[str, str]]:
    pairs = [(gold, changed(r, gold)) for gold in (r.choice(GOLDS) for _ in range(tries))]
    pairs = [(gold, pred) for gold, pred in dict.fromkeys(pairs) if spelled(gold) != spelled(pred)]
    with ThreadPoolExecutor(4 * (os.cpu_count() or 1)) as pool:
        scores = pool.map(lambda pair: accepted(*pair), pairs)
        return [pair for pair, score in zip(pairs, scores, strict=True) if score]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100_000)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    r = random.Random(arguments.seed)
    found = search(r, arguments.tries // 2)
    print(f"from nothing: {arguments.tries // 2} tries, {len(found)} accepted")
    for gold, pred in dict.fromkeys(found):
        print(f"  {gold}  accepts  {pred}")
    near = search_near(r, arguments.tries // 2)
    print(f"from the ground truth: {arguments.tries // 2} tries, {len(near)} accepted, to be judged")
    for gold, pred in near:
        print(f"  {gold}  accepts  {pred}")


if __name__ == "__main__":
    main()
