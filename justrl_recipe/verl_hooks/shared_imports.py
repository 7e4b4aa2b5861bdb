"""Which modules the processes of a run share, by the fork server (forkserver.py).

A process that has started CUDA cannot be forked. These modules of veRL 0.9.1 and vLLM 0.24 start it when they are
imported, so on GPUs each fork that needs one imports it, which takes one to three seconds; the list has what they
import before that:

- verl.workers.rollout.vllm_rollout.vllm_async_server: verl/utils/vllm/patch.py imports vLLM's mixture-of-experts
  models, and the kernels of one ask Triton for the device (vllm/model_executor/layers/fla/ops/utils.py);
- verl.trainer.main_ppo and verl.utils.kernel.kernels, which ask for the device's capability;
- vllm.compilation.backends, which imports flashinfer.
"""

import os

from omegaconf import DictConfig

from justrl_recipe.verl_hooks import forkserver

ALL = [
    "verl.trainer.ppo.v1",
    "verl.workers.engine_workers",
    "verl.workers.engine",
    "verl.experimental.reward_loop",
    "vllm.v1.engine.core",
    "transformers.models.qwen2.modeling_qwen2",
]
BY_DEVICE = {
    "cpu": ["verl.workers.rollout.vllm_rollout.vllm_async_server", "vllm.v1.worker.cpu_worker"],
    "cuda": [
        "torch.distributed.checkpoint",
        "verl.workers.rollout.replica",
        "verl.workers.rollout.vllm_rollout",
        "vllm.entrypoints.cli.serve",
        "vllm.entrypoints.openai.api_server",
        "vllm.model_executor.models.qwen2",
        "vllm.v1.attention.backends.flash_attn",
        "vllm.v1.engine.async_llm",
        "vllm.v1.executor.multiproc_executor",
        "vllm.v1.worker.gpu_model_runner",
        "vllm.v1.worker.gpu_worker",
    ],
}
LOGGING_LEVEL = {"VLLM_LOGGING_LEVEL": "WARN"}  # veRL's own for its workers; vLLM reads it when it is imported


def share(config: DictConfig, job: str) -> None:
    """Let every process of a run on one machine start as a fork of one that has imported the modules, where the
    config names no `py_executable`.

    `job` is the run's Ray job.
    """
    runtime_env = config.ray_kwargs.ray_init.runtime_env
    modules = BY_DEVICE.get(config.trainer.device)
    if modules and not runtime_env.get("py_executable"):
        env = {**LOGGING_LEVEL, **os.environ, **runtime_env.env_vars, "RAY_JOB_ID": job}
        runtime_env.py_executable = forkserver.start([*ALL, *modules], env)
