"""veRL on a machine without a GPU: its trainer, FSDP, Ray and vLLM's CPU engine, chosen by VERL_PLATFORM=cpu."""

import os


def enable() -> None:
    """Make veRL 0.9.1 run on a CPU. Called in each process, while `verl` is being imported."""
    from justrl_recipe.cpu import platform, process_group, vllm_distribution

    # veRL registers its FSDP engine for cuda and npu only, and offers this variable to choose one
    # (verl/workers/engine/base.py, EngineRegistry.get_engine_cls).
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")
    vllm_distribution.install()
    process_group.patch()
    platform.register()
