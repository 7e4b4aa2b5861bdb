"""`verl data train` on a file of DAPO-Math-17k's size: 17,917 problems, 100 copies of each, 1.79 million rows.

    .venv/bin/python benchmarks/data.py

Makes such a file (random text of DAPO's lengths, copies far apart), prepares it twice, and prints time and memory.
"""

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet

PROBLEMS, COPIES = 17_917, 100
PREFIX = (
    "Solve the following math problem step by step. The last line of your response should be of the form Answer: "
    "$Answer (without quotes) where $Answer is the answer to the problem.\n\n"
)
SUFFIX = '\n\nRemember to put your answer on its own line after "Answer:".'


def write_source(file: Path) -> None:
    """The published schema, one row group per copy of the whole set."""
    chance = random.Random(0)
    words = [
        "Let",
        "$x_{1}$",
        "be",
        "a",
        "real",
        "number",
        "such",
        "that",
        "\\frac{a}{b}",
        "find",
        "the",
        "sum",
        "of",
    ]
    texts = [f"Problem {n}: " + " ".join(chance.choices(words, k=chance.randint(20, 120))) for n in range(PROBLEMS)]
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [{"content": PREFIX + text + SUFFIX, "role": "user"}],
            "ability": "MATH",
            "reward_model": {"ground_truth": str(chance.randint(0, 999)), "style": "rule-lighteval/MATH_v2"},
            "extra_info": {"index": f"{number:032x}"},
        }
        for number, text in enumerate(texts)
    ]
    table = pyarrow.Table.from_pylist(rows)
    with pyarrow.parquet.ParquetWriter(file, table.schema) as writer:
        for _ in range(COPIES):
            writer.write_table(table)


def main() -> None:
    verl = Path(sys.executable).with_name("verl")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "dapo.parquet"
        write_source(source)
        print(f"{source.name}: {source.stat().st_size / 2**20:.0f} MiB")
        made = []
        for out in ("first", "second"):
            started = time.monotonic()
            command = [str(verl), "data", "train", "--source", str(source), "--out", str(Path(folder) / out)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            made.append((Path(folder) / out / "train.parquet").read_bytes())
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
            print(done.stdout.strip().replace(folder, "..."))
            print(f"{time.monotonic() - started:.0f} s, peak memory {peak:.0f} MiB")
        print("the same bytes" if made[0] == made[1] else "DIFFERENT BYTES")


if __name__ == "__main__":
    main()
