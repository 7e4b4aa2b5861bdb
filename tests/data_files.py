"""Data files for tests of what `verl validate` finds in them."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
from composed import load

from justrl_recipe.checks import Problem, data_files, data_rows
from justrl_recipe.config import Request
from justrl_recipe.data import schema


def rows(count: int, golds: list | None = None, prompt: str = "Problem {}." + schema.TRAINING_SUFFIX) -> list[dict]:
    return [
        schema.row(
            "math_dapo", i, "train", prompt.replace("{}", str(i), 1), golds[i % len(golds)] if golds else str(i)
        )
        for i in range(count)
    ]


def write(file: Path, entries: list[dict], **columns: pyarrow.Array) -> str:
    """A parquet file with the types that the entries have, or with columns of other types."""
    table = pyarrow.Table.from_pylist(entries)
    for name, column in columns.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pyarrow.parquet.write_table(table, file)
    return str(file)


def validation(folder: Path) -> str:
    schema.write_parquet(folder / "validation.parquet", rows(8))
    return str(folder / "validation.parquet")


def found(train: str | list[str], *overrides: str) -> list[Problem]:
    names = [train] if isinstance(train, str) else train
    val = validation(Path(names[0]).parent)
    files = [f"data.train_files=[{','.join(names)}]", f"data.val_files={val}", "data.train_batch_size=16"]
    request = Request("justrl_deepseek", overrides=(*files, "trainer.total_training_steps=5", *overrides))
    composed = load(request)
    return [*data_files.problems(composed), *data_rows.of_prompts(composed)]


def brief(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.check, problem.level) for problem in problems]
