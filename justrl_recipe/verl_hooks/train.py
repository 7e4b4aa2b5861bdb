"""The training process: `python -m justrl_recipe.verl_hooks.train CONFIG.yaml` does what veRL's `main` does.

A process of its own (started by run/start.py), so that what a person sees and what stops a run do not depend on
Ray, vLLM and torch. Mirrors `main` of verl/trainer/main_ppo.py (veRL 0.9.1), without its Hydra decorator.
"""

import os
import secrets
import sys
from typing import Any

from omegaconf import DictConfig, OmegaConf

from justrl_recipe.processes import end_with_parent
from justrl_recipe.verl_hooks import reward


def main(config_file: str, parent: int) -> None:
    """Train with the resolved config in `config_file`, as long as the process `parent` lives."""
    end_with_parent(parent)
    config = OmegaConf.load(config_file)
    assert isinstance(config, DictConfig)
    pass_on_log_path(config)
    check_rewards(config)
    job = number_job()
    if config.trainer.device == "cpu":
        share_imports(config, job)

    from verl.trainer.main_ppo import TaskRunnerV1, run_ppo
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import validate_config
    from verl.utils.device import auto_set_device

    auto_set_device(config)
    validate_config(
        config=config,
        use_reference_policy=need_reference_policy(config),
        use_critic=need_critic(config),
    )
    run_ppo(config, task_runner_class=TaskRunnerV1)


def pass_on_log_path(config: DictConfig) -> None:
    """Ray's workers see the driver's environment only where they are on its machine."""
    env_vars = {"VERL_FILE_LOGGER_PATH": os.environ["VERL_FILE_LOGGER_PATH"]}
    OmegaConf.update(config, "ray_kwargs.ray_init.runtime_env.env_vars", env_vars, merge=True, force_add=True)


def check_rewards(config: DictConfig) -> None:
    """Put the check of verl_hooks/reward.py in front of a reward function that the config names; see there."""
    given: Any = OmegaConf.to_container(config.reward.custom_reward_function)
    if given["path"]:
        OmegaConf.update(config, "reward.custom_reward_function", reward.wrap(given), merge=False, force_add=True)


def number_job() -> str:
    """Give the run a Ray job number that no other run on this machine has, and return it as Ray writes it.

    veRL 0.9.1 sends weights to vLLM through /tmp/rl-colocate-zmq-JOB-... (verl/workers/rollout/vllm_rollout), and
    each run has a Ray cluster of its own, in which Ray 2.60 counts jobs from 1. Two runs on one machine would meet at
    one socket: they hang, or one rolls out with the weights of the other.

    Raises:
        RuntimeError: Ray has changed.
    """
    import ray
    from ray._private import state

    if not hasattr(state, "next_job_id"):
        raise RuntimeError(f"Ray {ray.__version__} does not number jobs as Ray 2.60 does: see number_job in train.py")
    job_id = ray.JobID.from_int(secrets.randbits(31))
    state.next_job_id = lambda: job_id
    return job_id.hex()


def share_imports(config: DictConfig, job: str) -> None:
    """Let every process of a run on one CPU machine start as a fork of one that has imported everything.

    `job` is the run's Ray job.
    """
    from justrl_recipe.cpu import forkserver

    runtime_env = config.ray_kwargs.ray_init.runtime_env
    runtime_env.py_executable = forkserver.start(
        [
            "verl.trainer.ppo.v1",
            "verl.workers.engine_workers",
            "verl.workers.engine",
            "verl.workers.rollout.vllm_rollout.vllm_async_server",
            "verl.experimental.reward_loop",
            "vllm.v1.engine.core",
            "vllm.v1.worker.cpu_worker",
            "transformers.models.qwen2.modeling_qwen2",
        ],
        env={"RAY_JOB_ID": job, **runtime_env.env_vars},
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
