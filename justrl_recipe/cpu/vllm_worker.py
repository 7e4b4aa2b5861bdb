"""What vLLM's CPU worker needs beyond veRL's extension: weights that can be loaded again and again."""

import torch
import vllm._custom_ops
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """Named by recipes/system/cpu.yaml as vLLM's `worker_extension_cls`."""

    def __new__(cls, **kwargs):
        # With oneDNN, vLLM 0.24 packs each linear weight and frees the original
        # (vllm/model_executor/layers/utils.py, dispatch_cpu_unquantized_gemm), so the next sync has nothing
        # to load into. Without it the weight stays and torch multiplies.
        vllm._custom_ops._supports_onednn = False
        return super().__new__(cls, **kwargs)

    def _update_weights(
        self, weights: list[tuple[str, torch.Tensor]], peft_config: dict | None, base_sync_done: bool
    ) -> None:
        """Load copies: on a CPU the tensors are views of shared memory, which closes after this call
        (verl/workers/rollout/vllm_rollout/bucketed_weight_transfer.py, receive_weights)."""
        super()._update_weights([(name, tensor.clone()) for name, tensor in weights], peft_config, base_sync_done)
