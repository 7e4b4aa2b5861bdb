"""The reward function of a run, checked: a reward that is not a finite number raises an error.

veRL 0.9.1 takes whatever a reward function returns, and drops the responses for which it raises
(verl/trainer/ppo/v1/agent_loop_tq.py). `verl run` puts `compute_score` of this module in front of the function that
`reward.custom_reward_function` names (`wrap`), so that a None, NaN or text as a reward raises an error that says so;
reward_metrics.py counts the responses that were lost this way.

`python -m justrl_recipe.verl_hooks.reward PATH NAME [FILE]` imports a reward function, and writes the list of the
user's files that it is made of to FILE, as JSON. Standard library alone, so that it takes no more than the function's
own imports.
"""

import asyncio
import functools
import importlib
import importlib.util
import inspect
import json
import math
import sys
from collections.abc import Callable, Mapping
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGE_PREFIX, FILE_PREFIX = "pkg://", "file://"
OWN_ARGUMENT = "validation_sources"  # of reward_fns/justrl.py, which justrl.yaml gives to whatever reward is named
HERE = f"{PACKAGE_PREFIX}justrl_recipe.verl_hooks.reward"


class RewardError(Exception):
    """A reward function cannot be imported, or its result is not a reward."""


def wrap(given: Mapping[str, Any]) -> dict[str, Any]:
    """The `reward.custom_reward_function` section that has `compute_score` of this module call what `given` names.

    The path of a file becomes absolute: Ray's workers do not run in the driver's folder.
    """
    path = str(given["path"])
    if not path.startswith(PACKAGE_PREFIX):
        path = str(Path(path.removeprefix(FILE_PREFIX)).absolute())
    reward = {"path": path, "name": given["name"], "kwargs": dict(given.get("reward_kwargs") or {})}
    return {"path": HERE, "name": "compute_score", "reward_kwargs": {"reward": reward}}


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    reward: Mapping[str, Any],
    **kwargs: Any,
) -> dict[str, Any]:
    """Call the run's reward function, in a thread unless it is a coroutine function, and check what it returns.

    Args:
        reward: `path`, `name` and `kwargs` of the function, as `wrap` gives them.

    Returns:
        `{"score": float, ...}`, with `acc` only where the function gives one.

    Raises:
        RewardError: the result is not a reward.
    """
    function = load(reward["path"], reward["name"])
    call = functools.partial(
        function,
        data_source=data_source,
        solution_str=solution_str,
        ground_truth=ground_truth,
        extra_info=extra_info,
        **{**kwargs, **_taken(function, reward["kwargs"])},
    )
    if inspect.iscoroutinefunction(function):
        result = await call()
    else:
        result = await asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return checked(result)
    except ValueError as error:
        where = f"{reward['path']}: {reward['name']}() for data_source {data_source!r}"
        raise RewardError(f"{where} returned {error}") from None  # the first cause in the log names the file


def _taken(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a reward; without the recipe's own where a user's function in its place does not take them."""
    parameters = inspect.signature(function).parameters.values()
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
    names = {parameter.name for parameter in parameters}
    return {name: value for name, value in arguments.items() if takes_any or name in names or name != OWN_ARGUMENT}


def checked(result: Any) -> dict[str, Any]:
    """What a reward function returned, as a dict whose `score` is a finite float.

    A bare number is a score and no accuracy: veRL 0.9.1 would log it as `acc` (reward_manager/dapo.py).

    Raises:
        ValueError: it is not a reward; the text says what was returned and what is expected.
    """
    if not isinstance(result, Mapping):
        return {"score": _finite(result, "a finite number, or a dict with `score`")}
    if "score" not in result:
        raise ValueError(f"a dict without `score` ({_shown(dict(result))}): give it the reward as `score`")
    found = {**result, "score": _finite(result["score"], "a finite number as `score`")}
    if found.get("acc") is None:
        found.pop("acc", None)
    else:
        found["acc"] = _finite(found["acc"], "true or false, or a share, as `acc`")
    if found.get("reason") is not None:  # veRL takes the mean of what is not a text
        found["reason"] = str(found["reason"])
    return found


def _finite(value: Any, wanted: str) -> float:
    number = value.item() if hasattr(value, "item") and getattr(value, "size", None) == 1 else value  # numpy's
    if not isinstance(number, Real) or not math.isfinite(number):
        raise ValueError(f"{_shown(value)} ({type(value).__name__}): return {wanted}")
    return float(number)


def _shown(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


@functools.cache
def load(path: str, name: str) -> Callable[..., Any]:
    """The function `name` of a module (`pkg://module`) or a Python file, which may import modules beside it.

    Raises:
        RewardError: the file or the name is not there, or importing it raised; the text says which.
    """
    where = path.removeprefix(PACKAGE_PREFIX).removeprefix(FILE_PREFIX)
    try:
        if path.startswith(PACKAGE_PREFIX):
            module = importlib.import_module(where.replace("/", "."))
        else:
            module = _import_file(Path(where).absolute())
    except (Exception, SystemExit) as error:  # whatever a file of the user's raises while it is imported
        raise RewardError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RewardError(f"{where} defines no {name}(): define it, or set reward.custom_reward_function.name")
    return function


def _import_file(file: Path) -> ModuleType:
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    name = f"justrl_reward_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError("it is not a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that dataclasses and pickle find what the file defines
    spec.loader.exec_module(module)
    return module


OUR_MODULES = ("justrl_recipe", "__main__")


def files(path: str) -> list[str]:
    """The Python file at `path` and what it has imported from its folder; nothing for an installed module."""
    if path.startswith(PACKAGE_PREFIX):
        return []
    folder = Path(path.removeprefix(FILE_PREFIX)).absolute().parent
    modules = [module for name, module in sys.modules.items() if name.split(".")[0] not in OUR_MODULES]
    origins = {Path(file).absolute() for module in modules if (file := getattr(module, "__file__", None))}
    beside = (file for file in origins if file.is_relative_to(folder) and "site-packages" not in file.parts)
    return sorted(map(str, beside))


if __name__ == "__main__":
    try:
        load(sys.argv[1], sys.argv[2])
    except RewardError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(json.dumps(files(sys.argv[1])))
