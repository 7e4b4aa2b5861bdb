"""veRL's RL schema, and the two prompt suffixes."""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from justrl_recipe import files
from justrl_recipe.reward_fns.mathematics.brackets import unboxed

INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
TRAINING_SUFFIX = "\n\n" + INSTRUCTION  # paper; also for the in-training validation
EVALUATION_SUFFIX = " " + INSTRUCTION  # the authors' evaluation

GOLD_CHARACTERS = 10_000  # longer is no answer
BATCH_ROWS, BATCH_CHARACTERS = 10_000, 16 << 20  # rows, and characters of prompts, that are written at once
# What verl/utils/dataset/rl_dataset.py and the reward manager read.
SCHEMA = pyarrow.schema(
    {
        "data_source": pyarrow.string(),
        "prompt": pyarrow.list_(pyarrow.struct({"content": pyarrow.string(), "role": pyarrow.string()})),
        "ability": pyarrow.string(),
        "reward_model": pyarrow.struct({"ground_truth": pyarrow.string(), "style": pyarrow.string()}),
        "extra_info": pyarrow.struct({"index": pyarrow.string(), "split": pyarrow.string()}),
    }
)


def row(source: str, index: int, split: str, prompt: str, gold: str) -> dict[str, Any]:
    """One row of veRL's RL dataset; `prompt` with its suffix."""
    return {
        "data_source": source,
        "prompt": [{"content": prompt, "role": "user"}],
        "ability": "math",
        "reward_model": {"ground_truth": gold, "style": "rule"},
        "extra_info": {"index": f"{source}-{index}", "split": split},
    }


def normalised_gold(text: str) -> str:
    r"""A ground truth as a box should hold it: without `\boxed{}`, dollar signs or space around it, and without
    characters that have no width."""
    if not text.isascii():
        text = "".join(character for character in text if unicodedata.category(character) != "Cf")
    if len(text) > GOLD_CHARACTERS:
        return text.strip()
    return unboxed(re.sub(r"\\?\$", "", text).strip())


def write_parquet(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write rows of `SCHEMA` as they come, in bounded memory; return how many."""
    count, size, batch = 0, 0, []
    with files.replacing(path) as scratch, pyarrow.parquet.ParquetWriter(scratch, SCHEMA) as writer:
        for entry in rows:
            batch.append(entry)
            count += 1
            size += len(entry["prompt"][0]["content"])
            if len(batch) == BATCH_ROWS or size > BATCH_CHARACTERS:
                writer.write_table(pyarrow.Table.from_pylist(batch, SCHEMA))
                batch, size = [], 0
        writer.write_table(pyarrow.Table.from_pylist(batch, SCHEMA))
    return count
