"""What is wrong with a config before it costs GPU hours."""

from justrl_recipe.checks import keys, rewards, sizes
from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config

__all__ = ["Problem", "of_config"]


def of_config(config: Config, base: Config) -> list[Problem]:
    """Every problem that can be seen in the config itself; imports nothing heavy (checks/files.py looks further).

    Args:
        base: justrl.yaml with veRL's defaults, which know every key and its type.
    """
    unusable = keys.unusable(config, base)
    rest = [] if unusable else [*rewards.problems(config), *sizes.problems(config)]
    return [*unusable, *keys.idle(config, base), *rest]
