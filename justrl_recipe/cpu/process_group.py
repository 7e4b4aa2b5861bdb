"""veRL 0.9.1's process groups on a CPU.

Its two functions (verl/utils/distributed.py: one for its RL trainer under Ray, one for its supervised trainer under
torchrun) ask torch for the backend `cpu:gloo,<device>:<backend>`, which names the CPU twice when the device is the
CPU, and torch refuses that. Here both ask for `cpu:gloo`.
"""

import functools
import inspect
import os

from verl.utils import distributed

PARAMETERS = {
    "initialize_global_process_group_ray": ["timeout_second", "backend"],
    "initialize_global_process_group": ["timeout_second"],
}


def patch() -> None:
    """Give both functions the backend for a CPU.

    Raises:
        RuntimeError: veRL's functions are not those that this was written for.
    """
    under_ray = distributed.initialize_global_process_group_ray
    if isinstance(under_ray, functools.partial):
        return
    for name, parameters in PARAMETERS.items():
        if list(inspect.signature(getattr(distributed, name)).parameters) != parameters:
            raise RuntimeError(f"verl.utils.distributed.{name} is not veRL 0.9.1's")
    distributed.initialize_global_process_group_ray = functools.partial(under_ray, backend="cpu:gloo")
    distributed.initialize_global_process_group = _under_torchrun


def _under_torchrun(timeout_second: int = 36000) -> tuple[int, int, int]:
    """Local rank, rank and number of processes, as veRL's function returns them."""
    distributed.initialize_global_process_group_ray(timeout_second)
    return int(os.environ["LOCAL_RANK"]), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
