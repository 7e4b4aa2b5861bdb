"""The training process: `python -m justrl_recipe.verl_hooks.train PARENT CONFIG.yaml` does what veRL's `main` does.

A process of its own (run/start.py starts it, below run/guard.py), so that what a person sees and what stops a run do
not depend on Ray, vLLM and torch. Mirrors `main` of verl/trainer/main_ppo.py (veRL 0.9.1), without Hydra's decorator.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from justrl_recipe import masking, paths
from justrl_recipe.cpu import ON_THIS_MACHINE
from justrl_recipe.processes import end_with_parent
from justrl_recipe.quick_imports import quick_imports
from justrl_recipe.verl_hooks import patches, reward, shared_imports

Shown = Mapping[masking.Path, Any]
OF_A_NEW_CLUSTER = ("address", "num_cpus", "num_gpus", "resources", "labels", "object_store_memory")


def main(parent: int, config_file: str, checkpoint: str | None = None, validate: str = "0") -> None:
    """Train with the resolved config in `config_file`, as long as the process `parent` lives.

    Args:
        checkpoint: the folder to resume from.
        validate: "1" to validate before the first step of a resumed run.
    """
    end_with_parent(parent)
    config, shown = load(config_file)
    if checkpoint:
        resume = {"resume_mode": "resume_path", "resume_from_path": checkpoint, "val_before_train": validate == "1"}
        OmegaConf.update(config, "trainer", resume, merge=True)
    paths.make_absolute(config)
    pass_on_environment(config)
    check_rewards(config)
    job = patches.number_job()
    joins = bool(os.environ.get("RAY_ADDRESS"))
    if joins:
        join_cluster(config)
    else:
        config.ray_kwargs.ray_init.setdefault("include_dashboard", False)
    if not joins or (config.trainer.device == "cpu" and ON_THIS_MACHINE in os.environ):
        shared_imports.share(config, job)

    with quick_imports():
        from verl.trainer.main_ppo import run_ppo
        from verl.trainer.ppo.utils import need_critic, need_reference_policy
        from verl.utils.config import validate_config
        from verl.utils.device import auto_set_device

    auto_set_device(config)
    validate_config(
        config=config,
        use_reference_policy=need_reference_policy(config),
        use_critic=need_critic(config),
    )
    run_ppo(config, task_runner_class=task_runner(shown))


def load(config_file: str) -> tuple[DictConfig, Shown]:
    """The config in a file, with the true values of what is masked there, from the environment; and the masks."""
    hidden = [(tuple(path), value) for path, value in json.loads(os.environ.pop(masking.HIDDEN, "[]"))]
    written = OmegaConf.to_container(OmegaConf.load(config_file))
    config = OmegaConf.create(masking.replaced(written, dict(hidden)))
    assert isinstance(config, DictConfig)
    return config, {path: masking.at(written, path) for path, _ in hidden}


def task_runner(shown: Shown) -> Any:
    """veRL's task runner, with our trainer, and trackers to which the config's secrets are masked."""
    import ray
    from verl.trainer.main_ppo import TaskRunnerV1

    class TaskRunner(TaskRunnerV1.__ray_metadata__.modified_class.__ray_actor_class__):
        def run(self, config: DictConfig) -> None:
            from verl.trainer.ppo.v1.trainer_base import TRAINER_REGISTRY

            from justrl_recipe.verl_hooks.trainer import Trainer

            TRAINER_REGISTRY["sync"] = Trainer
            patches.guard_trackers(shown)
            patches.append_metrics()
            super().run(config)

    return Beside(ray.remote(TaskRunner))


class Beside:
    """An actor class for veRL's `run_ppo`, whose actor runs on the node of the caller: the metrics file is there."""

    def __init__(self, actor: Any):
        self.actor = actor

    def options(self, **options: Any) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        return self.actor.options(**options, num_cpus=0, scheduling_strategy=here)  # a head node may offer no CPU

    def remote(self) -> Any:
        return self.options().remote()


def join_cluster(config: DictConfig) -> None:
    """Leave out what Ray refuses where it joins a cluster; it takes the address from RAY_ADDRESS."""
    for key in OF_A_NEW_CLUSTER:
        config.ray_kwargs.ray_init.pop(key, None)


def pass_on_environment(config: DictConfig) -> None:
    """Ray's workers see the driver's environment only where the run starts a cluster of its own."""
    env_vars = {name: os.environ[name] for name in ("VERL_FILE_LOGGER_PATH", "VERL_PLATFORM") if name in os.environ}
    OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars", env_vars, merge=True, force_add=True)


def check_rewards(config: DictConfig) -> None:
    """Put the check of verl_hooks/reward.py in front of a reward function that the config names; see there."""
    given: Any = OmegaConf.to_container(config.reward.custom_reward_function)
    if given["path"]:
        OmegaConf.update(config, "reward.custom_reward_function", reward.wrap(given), merge=False, force_add=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
