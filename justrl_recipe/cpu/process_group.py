"""veRL 0.9.1's process group on a CPU.

`initialize_global_process_group_ray` (verl/utils/distributed.py) asks torch for the backend
`cpu:gloo,<device>:<backend>`, which names the CPU twice when the device is the CPU, and torch refuses that.
The default becomes `cpu:gloo`.
"""

import functools
import inspect

from verl.utils import distributed


def patch() -> None:
    """Give the function its default backend for a CPU.

    Raises:
        RuntimeError: veRL's function is not the one that this was written for.
    """
    function = distributed.initialize_global_process_group_ray
    if isinstance(function, functools.partial):
        return
    if list(inspect.signature(function).parameters) != ["timeout_second", "backend"]:
        raise RuntimeError("verl.utils.distributed.initialize_global_process_group_ray is not veRL 0.9.1's")
    distributed.initialize_global_process_group_ray = functools.partial(function, backend="cpu:gloo")
