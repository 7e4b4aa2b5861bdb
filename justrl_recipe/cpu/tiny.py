"""The tiny recipe's data and model, made on first use: `python -m justrl_recipe.cpu.tiny CONFIG.yaml`.

A process of its own, so that torch's memory is free again before training starts. It prints the number of
warm-up steps done, a line each, for whoever shows the progress.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from justrl_recipe.cpu.tiny_data import all_problems, make_problems, rows
from justrl_recipe.data.schema import write_parquet
from justrl_recipe.files import write_json
from justrl_recipe.quick_imports import quick_imports

DATA_FILE = "tiny_data.json"
THREADS = 2  # more of them wait for one another: the matrices are small


def is_made(config: Mapping[str, Any]) -> bool:
    """Whether the data and the model of the recipe's `tiny_*` sections are there, made from the same values."""
    data, model = config["tiny_data"], config["tiny_model"]
    return _spec(Path(data["path"]) / DATA_FILE) == data and _spec(Path(model["path"]) / "tiny_model.json") == model


def _spec(file: Path) -> dict | None:
    return json.loads(file.read_text()) if os.path.isfile(file) else None


def make(config: Mapping[str, Any]) -> None:
    """Make the data, then the model: warmed up on every problem that is not held out for validation."""
    with quick_imports():
        import torch

        from justrl_recipe.cpu import tiny_model

    torch.set_num_threads(min(torch.get_num_threads(), THREADS))
    data = config["tiny_data"]
    rest = len(all_problems()) - data["train"] - data["validation"]
    problems = make_problems(data["seed"], warmup=rest, train=data["train"], validation=data["validation"])
    folder = Path(data["path"])
    write_parquet(folder / "train.parquet", rows(problems.train, "train"))
    write_parquet(folder / "validation.parquet", rows(problems.validation, "validation"))
    tiny_model.make(
        Path(config["tiny_model"]["path"]),
        config["tiny_model"],
        problems.warmup + problems.train,
        progress=lambda step: print(step, flush=True),
    )
    write_json(folder / DATA_FILE, data)  # last, so that what was cut off is made again


if __name__ == "__main__":
    make(OmegaConf.to_container(OmegaConf.load(sys.argv[1]), resolve=True))  # type: ignore[arg-type]
