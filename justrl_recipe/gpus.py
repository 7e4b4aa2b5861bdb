"""The NVIDIA GPUs of this machine, by the driver's own tool: importing torch to ask it takes seconds."""

import os
import subprocess
from dataclasses import dataclass

from justrl_recipe.errors import UserError

LIMIT = 60.0  # seconds: a first call starts the driver
FIELDS = ("index", "uuid", "name", "memory.total", "memory.free", "compute_cap")
ASK = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
MIB = 1024  # of a GiB


@dataclass(frozen=True)
class Gpus:
    """GPUs of one kind.

    Attributes:
        name: as nvidia-smi shows it, e.g. "NVIDIA H200".
        memory_gib: of each, as nvidia-smi shows it.
        free_gib: of the one that has the least free.
        capability: CUDA's compute capability, major and minor.
    """

    name: str
    count: int
    memory_gib: float
    free_gib: float
    capability: tuple[int, int]

    def are(self, name: str, memory_gib: float) -> bool:
        """Whether they are what a system file's `machine` describes, e.g. H100-80GB of 79.6 GiB.

        Drivers differ by a percent in the memory that they show; a kind is sold with 40 GB or with 80.
        """
        same_name = name.split("-")[0].lower() in self.name.replace(" ", "").lower()
        return same_name and self.memory_gib > 0.95 * memory_gib


def visible() -> list[dict[str, str]]:
    """What the driver says of each GPU that CUDA_VISIBLE_DEVICES does not hide, by the names of `FIELDS`.

    Raises:
        UserError: the driver does not answer.
    """
    try:
        answer = subprocess.run(ASK, capture_output=True, text=True, errors="replace", timeout=LIMIT).stdout
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"nvidia-smi does not answer ({error}): without GPUs, hide it from PATH") from error
    rows = ([cell.strip() for cell in line.split(",")] for line in answer.splitlines())
    there = [dict(zip(FIELDS, row, strict=True)) for row in rows if len(row) == len(FIELDS)]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return there
    named = [one.strip() for one in chosen.split(",") if one.strip()]
    return [gpu for one in named for gpu in there if one == gpu["index"] or gpu["uuid"].startswith(one)]


def find() -> Gpus | None:
    """The visible GPUs; None without.

    Raises:
        UserError: they are of several kinds, or the driver does not say what they have.
    """
    there = visible()
    if not there:
        return None
    names = sorted({gpu["name"] for gpu in there})
    if len(names) > 1:
        raise UserError(f"GPUs of several kinds ({', '.join(names)}): choose some by CUDA_VISIBLE_DEVICES")
    try:
        total, free = (min(float(gpu[f"memory.{name}"]) / MIB for gpu in there) for name in ("total", "free"))
        major, minor = there[0]["compute_cap"].split(".")
        return Gpus(names[0], len(there), round(total, 1), round(free, 1), (int(major), int(minor)))
    except ValueError as error:
        raise UserError(f"nvidia-smi does not say what {names[0]} has: give --system FILE") from error
