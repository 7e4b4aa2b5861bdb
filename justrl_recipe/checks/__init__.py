"""What is wrong with a run before it costs GPU hours."""

from collections.abc import Collection, Iterable
from pathlib import Path

from justrl_recipe.checks import checkpoints, combinations, ignored, known_keys
from justrl_recipe.checks.problem import CHECKS, Problem
from justrl_recipe.config import Config

__all__ = ["CHECKS", "Problem", "kept", "of_config", "of_files", "of_model", "of_prompts", "reward", "usable"]


def of_config(config: Config, base: Config) -> list[Problem]:
    """Every problem that can be seen in the config itself; imports nothing heavy.

    Args:
        base: justrl.yaml with veRL's defaults, which know every key and its type.
    """
    unusable, repaired = known_keys.repaired(config, base)
    return [
        *unusable,
        *ignored.problems(repaired, base),
        *known_keys.unknown_keys(repaired, base),
        *combinations.problems(repaired),
        *checkpoints.problems(repaired, base),
        *combinations.of_sizes(repaired),
    ]


def usable(config: Config, base: Config) -> Config:
    """The config with the base's values in place of removed, replaced and retyped ones."""
    return known_keys.repaired(config, base)[1]


def of_files(config: Config, base: Config, folder: Path) -> list[Problem]:
    """Every problem of what a run reads and writes: data, model, code, disk. Runs no code of them.

    Args:
        folder: where the run will write; it need not be there yet.
    """
    from justrl_recipe.checks import data_files, model, named_code

    repaired = usable(config, base)
    return [
        *data_files.problems(repaired),
        *named_code.problems(repaired, base),
        *model.problems(repaired, base, folder),
    ]


def of_prompts(config: Config, base: Config) -> list[Problem]:
    """Every problem of the prompts with the model's tokenizer, of files that are fit by `of_files`; takes seconds."""
    from justrl_recipe.checks import data_rows

    return list(data_rows.of_prompts(usable(config, base)))


def of_model(config: Config, base: Config, folder: Path) -> list[Problem]:
    """The problems of the model alone, as `of_files`."""
    from justrl_recipe.checks import model

    return list(model.problems(usable(config, base), base, folder))


def reward(error: str | None, changed: Collection[Path]) -> list[Problem]:
    """What importing the run's reward function showed, and which of its files a resumed run did not start with.

    Args:
        error, changed: what `import_reward` and `changed` of run/own_reward.py found.
    """
    key, fix = "reward.custom_reward_function", "restore it from the run folder's code/, or choose another --out"
    found = [Problem("resume", key, f"{file} is not what the run started with", fix) for file in changed]
    fix = "fix the import, or set reward.custom_reward_function.path to another file"
    return [Problem("reward-import", key, error, fix), *found] if error else found


def kept(problems: Iterable[Problem], skip: Collection[str]) -> list[Problem]:
    """The problems of the checks that are not skipped."""
    return [problem for problem in problems if problem.check not in skip]
