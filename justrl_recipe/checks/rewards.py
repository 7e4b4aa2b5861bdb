"""Rewards that veRL would not give as they were asked for."""

from justrl_recipe.checks.problem import Problem
from justrl_recipe.config import Config

OUR_SAMPLER = "pkg://justrl_recipe.verl_hooks.reward_metrics"
PENALTY = "reward.reward_kwargs.overlong_buffer_cfg"


def problems(config: Config) -> list[Problem]:
    return [*overlong_penalty(config), *unlogged_group_filter(config), *idle_actor(config)]


def overlong_penalty(config: Config) -> list[Problem]:
    """DAPO's penalty, which needs its reward manager, the length that it counts from, and all its keys."""
    values = config.flat
    if not values.get(f"{PENALTY}.enable"):
        return []
    found = []
    manager = values["reward.reward_manager.name"]
    if manager != "dapo":
        fix = "set reward.reward_manager.name=dapo"
        found.append(Problem(f"{PENALTY}.enable", f"the reward manager {manager!r} has no such penalty", fix))
    for key, example in (("len", 4096), ("penalty_factor", 1.0), ("log", "true")):
        if values.get(f"{PENALTY}.{key}") is None:
            found.append(
                Problem(f"{PENALTY}.{key}", "the overlong penalty needs it", f"set it, such as to {example}")
            )
    longest, buffer = values.get("reward.reward_kwargs.max_resp_len"), values.get(f"{PENALTY}.len")
    if longest is None:
        fix = "set reward.reward_kwargs.max_resp_len=${data.max_response_length}"
        found.append(Problem("reward.reward_kwargs.max_resp_len", "the overlong penalty needs it", fix))
    elif buffer is not None and buffer > longest:
        fix = f"give at most {longest} (the recipe takes 4,096 of 15,360)"
        found.append(Problem(f"{PENALTY}.len", f"{buffer} is more than max_resp_len={longest}", fix))
    return found


def unlogged_group_filter(config: Config) -> list[Problem]:
    """DAPO's dynamic sampling, which veRL 0.9.1 leaves to its own sampler and skips with any other."""
    sampler = config.values["trainer"]["v1"]["sampler"]["custom_sampler"]
    if config.values["algorithm"]["filter_groups"]["enable"] and sampler["path"] == OUR_SAMPLER:
        fix = "add trainer.v1.sampler.custom_sampler.path=null (reward/acc is then not logged)"
        return [Problem("algorithm.filter_groups.enable", "true has no effect with the recipe's sampler", fix)]
    return []


def idle_actor(config: Config) -> list[Problem]:
    """veRL 0.9.1 holds the actor back for `critic_warmup` steps, also where there is no critic."""
    steps = config.values["trainer"]["critic_warmup"]
    if not steps:
        return []
    why = f"{steps} delays the actor by as many steps, and GRPO has no critic"
    return [Problem("trainer.critic_warmup", why, "set trainer.critic_warmup=0")]
