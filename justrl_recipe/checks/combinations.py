"""Settings that do not go together: what veRL's trainer, its rewards, Ray or `verl run` would ignore or refuse."""

import json
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config, nearest

OUR_SAMPLER = "pkg://justrl_recipe.verl_hooks.reward_metrics"
PENALTY = "reward.reward_kwargs.overlong_buffer_cfg"
RUNTIME_ENV = "ray_kwargs.ray_init.runtime_env"
LOG_PATH, CACHE = "VERL_FILE_LOGGER_PATH", "VLLM_CPU_KVCACHE_SPACE"
# verl/utils/tracking.py (veRL 0.9.1), with the package that each tracker imports.
TRACKERS = {
    "console": None,
    "file": None,
    "wandb": "wandb",
    "tracking": "wandb",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "vemlp_wandb": "volcengine_ml_platform",
    "tensorboard": "tensorboard",
    "clearml": "clearml",
    "trackio": "trackio",
    "rl_insight": "rl_insight",
}


def problems(config: Config) -> Iterator[Problem]:
    yield from overlong_penalty(config)
    yield from group_filter(config)
    yield from another_trainer(config)
    yield from critic_warmup(config)
    yield from launcher(config)
    yield from trackers(config)


def overlong_penalty(config: Config) -> Iterator[Problem]:
    """DAPO's penalty, which needs its reward manager, the length that it counts from, and all its keys."""
    values = config.flat
    if not values.get(f"{PENALTY}.enable"):
        return
    manager = values["reward.reward_manager.name"]
    if manager != "dapo":
        fix = "set reward.reward_manager.name=dapo"
        why = f"the reward manager {manager!r} has no such penalty"
        yield Problem("overlong-penalty", f"{PENALTY}.enable", why, fix)
    for key, example in (("len", 4096), ("penalty_factor", 1.0), ("log", "true")):
        if values.get(f"{PENALTY}.{key}") is None:
            fix = f"set it, such as to {example}"
            yield Problem("overlong-penalty", f"{PENALTY}.{key}", "the overlong penalty needs it", fix)
    longest, buffer = values.get("reward.reward_kwargs.max_resp_len"), values.get(f"{PENALTY}.len")
    if longest is None:
        fix = "set reward.reward_kwargs.max_resp_len=${data.max_response_length}"
        key = "reward.reward_kwargs.max_resp_len"
        yield Problem("overlong-penalty", key, "the overlong penalty needs it", fix)
    elif buffer is not None and not 0 < buffer <= longest:
        fix = f"give a number from 1 to {longest} (the recipe takes 4,096 of 15,360)"
        yield Problem("overlong-penalty", f"{PENALTY}.len", f"{buffer} does not fit max_resp_len={longest}", fix)


def group_filter(config: Config) -> Iterator[Problem]:
    """DAPO's dynamic sampling, which veRL 0.9.1 leaves to its own sampler, and which needs a metric."""
    sampler = config.values["trainer"]["v1"]["sampler"]["custom_sampler"]
    filter_groups = config.values["algorithm"]["filter_groups"]
    if not filter_groups["enable"]:
        return
    if sampler["path"] == OUR_SAMPLER:
        fix = "add trainer.v1.sampler.custom_sampler.path=null (reward/acc and lost responses are then not logged)"
        why = "true has no effect with the recipe's sampler"
        yield Problem("group-filter", "algorithm.filter_groups.enable", why, fix)
    if not filter_groups["metric"]:
        why = "dynamic sampling needs the metric that it compares"
        yield Problem("group-filter", "algorithm.filter_groups.metric", why, "set it, such as to acc")


def another_trainer(config: Config) -> Iterator[Problem]:
    """The trainers that `verl run` does not start, or that the recipe's sampler does not go with."""
    trainer = config.values["trainer"]
    if trainer["use_v1"] is not True:
        why = "`verl run` starts only veRL's v1 trainer"
        yield Problem("trainer", "trainer.use_v1", why, "set trainer.use_v1=true")
    if trainer["v1"]["trainer_mode"] != "sync" and trainer["v1"]["sampler"]["custom_sampler"]["path"] == OUR_SAMPLER:
        why = f"{trainer['v1']['trainer_mode']} needs veRL's own sampler, the recipe's is synchronous"
        fix = "set trainer.v1.trainer_mode=sync, or trainer.v1.sampler.custom_sampler.path=null"
        yield Problem("trainer", "trainer.v1.trainer_mode", why, fix)


def critic_warmup(config: Config) -> Iterator[Problem]:
    """veRL 0.9.1 does not update the actor for `critic_warmup` steps, even without a critic."""
    steps = config.values["trainer"]["critic_warmup"]
    if steps:
        why = f"{steps} delays the actor by as many steps, and GRPO has no critic"
        yield Problem("critic-warmup", "trainer.critic_warmup", why, "set trainer.critic_warmup=0", "warning")


def launcher(config: Config) -> Iterator[Problem]:
    """Settings of Ray that starting the run would replace (verl_hooks/train.py, run/start.py) or that Ray refuses."""
    runtime_env = config.values["ray_kwargs"]["ray_init"]["runtime_env"]
    on_cpu = config.values["trainer"]["device"] == "cpu"
    env_vars = runtime_env.get("env_vars") or {}
    if not isinstance(env_vars, Mapping):
        why = f"{env_vars!r} is not a section of variables"
        yield Problem("launcher", f"{RUNTIME_ENV}.env_vars", why, "set single variables in it")
        return
    for name, value in env_vars.items():
        key = f"{RUNTIME_ENV}.env_vars.{name}"
        if name == LOG_PATH:
            why = "the run's metrics are written to metrics.jsonl in its run folder"
            yield Problem("launcher", key, why, "remove it, and choose the folder by --out")
        elif not isinstance(value, str):
            why = f"{json.dumps(value, default=str)} is not text, and Ray accepts only text"
            yield Problem("launcher", key, why, f"quote it: {key}='\"{value}\"'")
        elif name == CACHE and on_cpu and not value.isdecimal():
            yield Problem(
                "launcher", key, f"{value!r} is not a whole number of GiB", "give it as text, such as '\"1\"'"
            )
    if on_cpu and runtime_env.get("py_executable"):
        why = "on a CPU every process is a fork of one that this package starts"
        yield Problem("launcher", f"{RUNTIME_ENV}.py_executable", why, "remove it")
    if on_cpu and (address := os.environ.get("RAY_ADDRESS")):
        why = f"{address} is not used: on a CPU the run starts its own Ray"
        yield Problem("launcher", "RAY_ADDRESS", why, "unset it", "warning")


def trackers(config: Config) -> Iterator[Problem]:
    """Loggers that veRL does not know, and those whose package is not installed."""
    given = config.values["trainer"]["logger"]
    for name in [given] if isinstance(given, str) else given or []:
        if not isinstance(name, str) or name not in TRACKERS:
            yield Problem(
                "logger", "trainer.logger", f"veRL has no tracker {name!r}", nearest(str(name), list(TRACKERS))
            )
        elif (package := TRACKERS[name]) and find_spec(package) is None:
            why = f"{name} needs the package {package}, which is not installed"
            yield Problem("logger", "trainer.logger", why, f"install it, or remove {name}")
