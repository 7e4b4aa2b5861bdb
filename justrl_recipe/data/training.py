"""The training set: DAPO-Math-17k, each problem once, asking for the answer as the reward looks for it.

The published file holds every problem about a hundred times, with a prefix and a suffix that ask for `Answer:`. The
authors strip both and append the recipe's suffix (PAPER: data); a run then counts steps, not epochs.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from justrl_recipe import files, hub
from justrl_recipe.data import problems, schema
from justrl_recipe.errors import UserError

REPOSITORY = "BytedTsinghua-SIA/DAPO-Math-17k"
REPOSITORY_FILE = "data/dapo-math-17k.parquet"
DATA_SOURCE = "math_dapo"
MOST_KNOWN, LONG = 100_000, 10_000  # pairs, and characters of a prompt, that are recognised as they stand

# What asks for the answer, by a text that it has: to look for that first takes a tenth of the time. Each starts where
# no white space stands before, so that a search takes time in proportion to the prompt's length.
INSTRUCTIONS = {
    "Solve the following math problem step by step.": re.compile(
        r"^\s*Solve the following math problem step by step\. The last line of your response should be of the form "
        r"Answer: \$Answer \(without quotes\) where \$Answer is the answer to the problem\.\s*"
    ),
    "Remember to put your answer": re.compile(
        r'(?<!\s)\s*Remember to put your answer on its own line after "Answer:"\.\s*$'
    ),
    schema.INSTRUCTION: re.compile(r"(?<!\s)\s*" + re.escape(schema.INSTRUCTION) + r"\s*$"),
}

Progress = Callable[[int], None]


def problem_of(prompt: str) -> str:
    """The bare problem of a prompt: without DAPO's instructions or the recipe's own."""
    for has, instruction in INSTRUCTIONS.items():
        if has in prompt:
            prompt = instruction.sub("", prompt)
    return prompt.strip()


@dataclass
class Tally:
    """What became of the rows of a source."""

    rows_in: int = 0
    stripped: int = 0  # of instructions other than the recipe's
    dropped: Counter[str] = field(default_factory=Counter)  # by reason


def prepare(
    source: Path, out: Path, origin: dict[str, Any], progress: Progress, columns: problems.Pair | None = None
) -> dict[str, Any]:
    """Write `out` (veRL parquet) and its provenance beside it, from any file that `problems.read` takes.

    Args:
        origin: what the provenance says of where `source` comes from.
        progress: called with the number of rows that were read since its last call.
        columns: as `problems.read`.

    Returns:
        The provenance: origin, hash, rows in and out, and what was dropped and why.
    """
    tally = Tally()
    rows_out = schema.write_parquet(out, _rows(source, tally, progress, columns))
    provenance = {
        **origin,
        "source_sha256": files.sha256(source),
        "rows_in": tally.rows_in,
        "rows_out": rows_out,
        "dropped": {reason: count for reason, count in sorted(tally.dropped.items()) if count},
        "other_instructions_removed": tally.stripped,
        "suffix": schema.TRAINING_SUFFIX,
        "sha256": files.sha256(out),
        "made_by": f"justrl-recipe {version('justrl-recipe')}",
    }
    files.write_json(out.with_suffix(".provenance.json"), provenance)
    return provenance


def _rows(source: Path, tally: Tally, progress: Progress, columns: problems.Pair | None) -> Iterator[dict[str, Any]]:
    """Each problem once, where it stands first. Memory holds one batch and 32 bytes per distinct problem."""
    seen: dict[bytes, bytes] = {}
    known: set[bytes] = set()  # pairs as the source writes them, which takes half of the time for DAPO's copies
    for batch in problems.read(source, columns):
        tally.rows_in += batch.rows
        tally.dropped["copies of a problem"] += batch.rows - len(batch.pairs)
        bare: dict[str, tuple[str, bytes]] = {}  # a long problem may stand with many golds
        for prompt, answer in batch.pairs:
            if len(prompt) < LONG:
                pair = hashlib.blake2b(f"{prompt}\0{answer}".encode(), digest_size=16).digest()
                if pair in known:
                    tally.dropped["copies of a problem"] += 1
                    continue
                if len(known) < MOST_KNOWN:
                    known.add(pair)
            if prompt not in bare:
                problem = problem_of(prompt)
                bare[prompt] = problem, digest(problem)
            (problem, key), gold = bare[prompt], schema.normalised_gold(answer)
            if not problem or not gold:
                tally.dropped["empty problem" if gold else "empty ground truth"] += 1
                continue
            value = digest(gold)
            if key in seen:
                same = seen[key] == value
                tally.dropped["copies of a problem" if same else "same problem with another ground truth"] += 1
                continue
            tally.stripped += problem != prompt.strip()
            yield schema.row(DATA_SOURCE, len(seen), "train", problem + schema.TRAINING_SUFFIX, gold)
            seen[key] = value
        progress(batch.rows)
    if not seen:
        raise UserError(f"{source}: no row has a problem and a ground truth")


def download() -> tuple[Path, dict[str, Any]]:
    """DAPO-Math-17k from the Hugging Face hub (kept in its cache), and its origin.

    Raises:
        UserError: no network, or the hub refuses.
    """
    from huggingface_hub import hf_hub_download

    with hub.revision(REPOSITORY, "give --source FILE") as revision:
        file = hf_hub_download(REPOSITORY, REPOSITORY_FILE, repo_type="dataset", revision=revision)
    return Path(file), {"source": REPOSITORY, "revision": revision}


def digest(problem: str) -> bytes:
    """What two copies of a problem share: their text, whatever their white space."""
    return hashlib.blake2b(" ".join(problem.split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()
