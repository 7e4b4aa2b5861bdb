"""Rewards that veRL would not give as they were asked for."""

from collections.abc import Iterator

from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config

OUR_SAMPLER = "pkg://justrl_recipe.verl_hooks.reward_metrics"
PENALTY = "reward.reward_kwargs.overlong_buffer_cfg"


def problems(config: Config) -> Iterator[Problem]:
    yield from overlong_penalty(config)
    yield from group_filter(config)


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
