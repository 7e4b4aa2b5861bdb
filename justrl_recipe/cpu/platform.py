"""The `cpu` platform of veRL (verl/plugin/platform/platform_base.py)."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry


def _memory_of_process(device: Any = None) -> int:
    """Bytes; the peaks are not recorded, so they are what is in use now."""
    return psutil.Process().memory_info().rss


def _device_module() -> ModuleType:
    """`torch.cpu` with the memory calls that veRL makes on a device module, none of which it has."""
    module = ModuleType("justrl_recipe.cpu.device_module")
    module.__dict__.update(
        {name: value for name, value in vars(torch.cpu).items() if not name.startswith("__")},
        memory_allocated=_memory_of_process,
        memory_reserved=_memory_of_process,
        max_memory_allocated=_memory_of_process,
        max_memory_reserved=_memory_of_process,
        reset_peak_memory_stats=lambda device=None: None,
        mem_get_info=lambda device=None: (psutil.virtual_memory().available, psutil.virtual_memory().total),
        get_device_name=lambda device=None: "cpu",
        empty_cache=lambda: None,
        ipc_collect=lambda: None,
        get_rng_state=lambda device=None: torch.get_rng_state(),
        set_rng_state=lambda state, device=None: torch.set_rng_state(state),
    )
    return module


class PlatformCPU(PlatformBase):
    """One logical accelerator, which is the CPU.

    Ray counts it as a `GPU`, because veRL's resource check (verl/single_controller/ray/base.py) counts only
    GPU and NPU; Ray is started with that many logical GPUs (recipes/system/cpu.yaml).
    """

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # never detected, only chosen: a GPU cluster's CPU-only actors must not land here

    def current_device(self) -> str:  # type: ignore[override]
        return torch.cpu.current_device()  # "cpu": veRL moves tensors `.to()` it, and an index means CUDA

    def device_count(self) -> int:
        return 1

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    def _nothing(self, *args: Any, **kwargs: Any) -> None:
        """What a GPU does and a CPU has no need of."""

    set_device = synchronize = set_allocator_settings = empty_cache = _nothing
    profiler_start = profiler_stop = cudart = _nothing

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False  # weights go from trainer to rollout through shared memory


def register() -> None:
    """Register the platform under the name `cpu`."""
    PlatformRegistry.register(platform="cpu")(PlatformCPU)
