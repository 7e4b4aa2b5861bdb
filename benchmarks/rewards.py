"""Our reward functions beside veRL's, in one run: agreement, false accepts, hostile answers, speed.

    .venv/bin/python benchmarks/rewards.py [--golds FOLDER] [--load]

With --load only the robust verifier is measured: the labelled answers on a quiet machine and beside `BUSY`
processes that compute, whose verdicts have to be the same, and the time of one verdict from warm workers.
Otherwise, the labelled and the hostile answers are those of the tests. FOLDER holds benchmark files in veRL's
parquet schema, or with an `answer` column, whose ground truths are then what the speed on string-equal answers is
measured on.
"""

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError
from multiprocessing import get_context
from pathlib import Path

import psutil
import pyarrow.parquet
import yaml
from pebble import ProcessPool
from verl.utils.reward_score import math_dapo, math_verify, prime_math

from justrl_recipe.reward_fns import robust_verifier, rule_based
from justrl_recipe.reward_fns.mathematics import workers

TESTS = Path(__file__).parent.parent / "tests"
LIMIT = 5.0  # seconds for one answer
BUSY = 8  # processes that compute beside the verifier, with --load
SECONDS = 20.0  # that a speed is measured for, at most

Scorer = Callable[[str, str], bool]


def ours_rule_based(response: str, gold: str) -> bool:
    return rule_based.compute_score("benchmark", response, gold)["acc"]


def ours_robust(response: str, gold: str) -> bool:
    return robust_verifier.compute_score("benchmark", response, gold)["acc"]


def verl_strict(response: str, gold: str) -> bool:
    return math_dapo.compute_score(response, gold, strict_box_verify=True)["acc"]


def verl_math_verify(response: str, gold: str) -> bool:
    return math_verify.compute_score(response, gold) > 0


def verl_math_verify_worker(response: str, gold: str) -> bool:
    """What a worker of veRL's pool does, here in a process that can be killed: one hang does not cost the rest."""
    return math_verify._verify_in_subprocess(f"\\boxed{{{gold}}}", response) > 0


def verl_prime_math(response: str, gold: str) -> bool:
    return bool(prime_math.compute_score(response, gold)[0])


# name: (as it is called, as it is called in a process that can be killed)
SCORERS: dict[str, tuple[Scorer, Scorer]] = {
    "`rule_based`, the recipe's reward": (ours_rule_based,) * 2,
    "`robust_verifier`": (ours_robust,) * 2,
    "veRL `math_dapo`, strict": (verl_strict,) * 2,
    "veRL `math_verify`": (verl_math_verify, verl_math_verify_worker),
    "veRL `prime_math`": (verl_prime_math,) * 2,
}


def verdicts(scorer: Scorer, pairs: list[tuple[str, str]]) -> list[bool | None]:
    """Each pair's verdict; None where it takes longer than `LIMIT`, and False where the scorer raises."""
    found: list[bool | None] = []
    end_at_once = [signal.SIGTERM, signal.SIG_DFL]
    with ProcessPool(1, initializer=signal.signal, initargs=end_at_once, context=get_context("fork")) as pool:
        pool.schedule(scorer, args=["\\boxed{1+x}", "x+1"]).exception()  # what starts late is not counted
        for response, gold in pairs:
            error = (task := pool.schedule(scorer, args=[response, gold], timeout=LIMIT)).exception()
            found.append(None if isinstance(error, TimeoutError) else error is None and task.result())
    return found


def per_second(scorer: Scorer, pairs: list[tuple[str, str]]) -> float:
    for response, gold in pairs[:8]:
        scorer(response, gold)  # what starts late is not counted
    started, done = time.perf_counter(), 0
    for response, gold in pairs[8:]:
        scorer(response, gold)
        done += 1
        if time.perf_counter() - started > SECONDS:
            break
    return done / (time.perf_counter() - started)


def labelled_answers() -> list[tuple[str, str, bool]]:
    """(gold, answer, whether they are equal) of tests/answers.yaml."""
    kinds = yaml.safe_load((TESTS / "answers.yaml").read_text(encoding="utf-8")).values()
    columns = (("equal", True), ("other", False))
    rows = [(row, column, equal) for rows in kinds for row in rows for column, equal in columns]
    return [(row["gold"], answer, equal) for row, column, equal in rows for answer in row.get(column, [])]


def read(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def labelled_row(row: dict) -> tuple[str, str, bool]:
    gold, pred = (row[name] if row.get(f"{name}_bare") is None else row[f"{name}_bare"] for name in ("gold", "pred"))
    return gold, pred, row["expected"]


def golds(folder: Path) -> list[str]:
    found = []
    for file in sorted(folder.glob("*.parquet")):
        for row in pyarrow.parquet.read_table(file).to_pylist():
            found.append(str(row["answer"] if "answer" in row else row["reward_model"]["ground_truth"]))
    return found


def spelled_differently(count: int) -> list[tuple[str, str]]:
    """Distinct pairs that are equal only by mathematics: no string and no fraction decides them."""
    kinds = [
        lambda n: (f"\\sqrt{{{3 * n * n}}}", f"{n}\\sqrt{{3}}"),
        lambda n: (f"x^2+{2 * n}x+{n * n}", f"(x+{n})^2"),
        lambda n: (f"\\frac{{1}}{{\\sqrt{{{n}}}}}", f"\\frac{{\\sqrt{{{n}}}}}{{{n}}}"),
        lambda n: (f"({n}, \\pi/2)", f"({n},\\frac{{\\pi}}{{2}})"),
        lambda n: (f"\\pi+{n}", f"{n}+\\pi"),
        lambda n: (f"[{n}, +\\infty)", f"[{n},\\infty)"),
        lambda n: (f"{n}\\pi", f"{n + 1}\\pi"),
    ]
    pairs = [kinds[n % len(kinds)](n) for n in range(2, count + 2)]
    return [(f"\\boxed{{{pred}}}", gold) for pred, gold in pairs]


def under_load(labelled: list[tuple[str, str, bool]]) -> None:
    """The verdicts on `labelled` quiet and busy, and how long one takes."""
    scorer = ours_robust
    pairs = [(f"\\boxed{{{pred}}}", gold) for gold, pred, _ in labelled]
    for pair in pairs:
        scorer(*pair)  # warm workers
    print(
        "| machine | agreement | false accepts | p50, s | p99, s | longest, s | no verdict |"
        "\n|---|---|---|---|---|---|---|"
    )
    found = []
    for name, count in (("quiet", 0), (f"{BUSY} busy processes", BUSY)):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
        got, seconds = [], []
        try:
            for pair in pairs:
                started = time.perf_counter()
                got.append(scorer(*pair))
                seconds.append(time.perf_counter() - started)
        finally:
            for process in busy:
                process.kill()
        right = sum(verdict is expected for verdict, (_, _, expected) in zip(got, labelled, strict=True))
        wrong = sum(verdict and not expected for verdict, (_, _, expected) in zip(got, labelled, strict=True))
        seconds.sort()
        p50, p99 = (seconds[int(share * len(seconds))] for share in (0.5, 0.99))
        columns = [name, f"{right / len(labelled):.1%}", str(wrong), f"{p50:.4f}", f"{p99:.3f}", f"{seconds[-1]:.2f}"]
        print(f"| {' | '.join(columns)} | {workers.no_verdicts()} |", flush=True)
        found.append(got)
    print(f"{sum(a is not b for a, b in zip(*found, strict=True))} of {len(labelled)} verdicts differ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelled", type=Path, help="JSON lines of gold, pred and expected, instead of the tests'")
    parser.add_argument("--golds", type=Path, help="a folder of benchmark files")
    parser.add_argument("--load", action="store_true", help="the robust verifier alone, quiet and busy")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)

    labelled = labelled_answers()
    if arguments.labelled:
        labelled = [
            labelled_row(row) for row in read(arguments.labelled) if row.get("clean", True) and not row.get("policy")
        ]
    if arguments.load:
        under_load(labelled)
        return
    hostile = read(TESTS / "hostile_answers.jsonl")
    texts = golds(arguments.golds) if arguments.golds else [gold for gold, _, _ in labelled]
    equal = [(f"so it is \\boxed{{{gold}}}.", gold) for gold in texts]
    different = spelled_differently(700)
    wrong = sum(not expected for _, _, expected in labelled)

    print(
        f"| verifier | agreement ({len(labelled)}) | false accepts | hostile over {LIMIT:.0f} s ({len(hostile)}) ",
        end="",
    )
    print(f"| answers/s, string-equal ({len(equal)}) | answers/s, equal by mathematics |\n|---|---|---|---|---|---|")
    for name, (scorer, killable) in SCORERS.items():
        got = verdicts(killable, [(f"\\boxed{{{pred}}}", gold) for gold, pred, _ in labelled])
        agreed = sum(verdict is expected for verdict, (_, _, expected) in zip(got, labelled, strict=True))
        accepted = sum(
            verdict is True and not expected for verdict, (_, _, expected) in zip(got, labelled, strict=True)
        )
        late = verdicts(killable, [(row["response"], row["gold"]) for row in hostile]).count(None)
        speeds = per_second(scorer, equal), per_second(scorer, different)
        columns = [
            name,
            f"{agreed / len(labelled):.1%}",
            f"{accepted}/{wrong}",
            str(late),
            *(f"{s:,.0f}" for s in speeds),
        ]
        print(f"| {' | '.join(columns)} |", flush=True)
        for left in psutil.process_iter(["cmdline"]):  # veRL's scorers leave processes that would slow the next one
            if left.info["cmdline"] == psutil.Process().cmdline() and left.pid != os.getpid():
                left.kill()


if __name__ == "__main__":
    main()
