"""Measures the evaluation: the speed of grading and the coverage of the interval.

.venv/bin/python benchmarks/evaluation.py grading --golds FOLDER    # FOLDER with the nine prepared benchmarks
.venv/bin/python benchmarks/evaluation.py coverage
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy

from justrl_recipe.data import benchmarks
from justrl_recipe.evaluation import scores

VERL = str(Path(sys.executable).with_name("verl"))
CHARACTERS = 30_000  # of a response


def response(rng: random.Random, words: list[str], gold: str) -> str:
    """A long text that ends in a box: the ground truth, the same in other words, something else, or no box."""
    ending = rng.choices(
        [
            f"\\boxed{{{gold}}}",
            f"\\boxed{{ {gold} \\text{{}} }}",
            f"\\boxed{{{rng.randint(0, 999)}}}",
            f"\\boxed{{x^2+{gold}}}",
            "",
        ],
        [50, 15, 20, 10, 5],
    )[0]
    text = " ".join(rng.choices(words, k=CHARACTERS // 6))
    return "√" + text[: CHARACTERS - len(ending) - 2] + " " + ending  # one such character doubles a text in memory


def grading(golds: Path) -> None:
    """Grade and summarise a whole evaluation of the nine: 12,184 responses of 30,000 characters."""
    rng = random.Random(0)
    words = [f"{rng.choice('abcdefgh')}{number}" for number in range(3_000)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "samples.jsonl")
        with file.open("w") as lines:
            for benchmark in benchmarks.load([], golds, None, None):
                for name, problem, sample in benchmark.response_keys():
                    prompt, gold = benchmark.problems[problem]
                    entry = {"benchmark": name, "problem": problem, "sample": sample, "prompt": prompt, "gold": gold}
                    entry |= {"response": response(rng, words, gold), "tokens": 9_000, "finish_reason": "stop"}
                    lines.write(json.dumps(entry) + "\n")
        print(f"{file.stat().st_size / 2**20:.0f} MiB of samples", flush=True)
        started = time.monotonic()
        subprocess.run([VERL, "eval", "--grade-only", file, "--out", f"{folder}/out"], check=True)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        print(f"{time.monotonic() - started:.0f} s, peak memory of the largest process {peak:.2f} GiB")


def coverage() -> None:
    """How often the interval holds the true mean, for benchmarks of the paper's sizes and three mixes of problems."""
    rng = numpy.random.default_rng(0)
    print("| problems x samples | mix of abilities | true mean | coverage | mean width |\n|---|---|---:|---:|---:|")
    for size, n, repeats in ((30, 32, 1_000), (40, 32, 1_000), (272, 4, 300), (674, 4, 200)):
        for mix in ((0.5, 0.5), (0.3, 1.2), (3.0, 0.3)):
            true = mix[0] / sum(mix)
            intervals = [scores.interval(rng.binomial(n, rng.beta(*mix, size=size)) / n) for _ in range(repeats)]
            share = numpy.mean([low <= true <= high for low, high in intervals])
            width = numpy.mean([high - low for low, high in intervals])
            print(f"| {size} x {n} | Beta({mix[0]}, {mix[1]}) | {true:.2f} | {share:.3f} | {width:.3f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["grading", "coverage"])
    parser.add_argument("--golds", type=Path, metavar="FOLDER", help="the nine prepared benchmarks")
    arguments = parser.parse_args()
    grading(arguments.golds) if arguments.what == "grading" else coverage()
