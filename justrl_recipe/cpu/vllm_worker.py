"""vLLM's CPU worker under veRL: weights that can be loaded again and again."""

from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension

from justrl_recipe.cpu import patches


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """Named by recipes/system/cpu.yaml as vLLM's `worker_extension_cls`."""

    def __new__(cls, **kwargs):
        patches.keep_plain_weights()
        return super().__new__(cls, **kwargs)


patches.load_copies(CpuWorkerExtension)
