"""The NVIDIA GPUs of this machine, by the driver's own tool: importing torch to ask it takes seconds."""

import os
import re
import subprocess
from dataclasses import dataclass

from justrl_recipe.errors import UserError
from justrl_recipe.planning.model_shape import is_size
from justrl_recipe.terminal import one_line

LIMIT = 30.0  # seconds: a first call starts the driver
FIELDS = ("index", "uuid", "name", "memory.total", "memory.free", "compute_cap")
ASK = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
MIB = 1024  # of a GiB
QUOTED = 200  # characters of what nvidia-smi says
NAME = re.compile(r"[\w .()/+-]{1,64}", re.ASCII)
CHOICE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpus:
    """GPUs of one kind.

    Attributes:
        name: as nvidia-smi shows it, e.g. "NVIDIA H200".
        memory_gib: of each, as nvidia-smi shows it.
        free_gib: of the one that has the least free.
        capability: CUDA's compute capability, major and minor.
        fullest: the index of the one that has the least free.
    """

    name: str
    count: int
    memory_gib: float
    free_gib: float
    capability: tuple[int, int]
    fullest: str = "0"

    def are(self, name: str, memory_gib: float) -> bool:
        """Whether they are what a system file's `machine` describes, e.g. H100-80GB of 79.6 GiB.

        Drivers differ by a percent in the memory that they show; a kind is sold with 40 GB or with 80.
        """
        return is_kind(self.name, name) and self.memory_gib > 0.95 * memory_gib


def is_kind(shown: str, kind: str) -> bool:
    """Whether the name that nvidia-smi shows is of a kind, such as H100-80GB: in whole words, of its size."""
    name, _, size = kind.partition("-")
    words = re.sub(r"(?<=[a-z])(?=\d)", " ?", re.escape(name), flags=re.IGNORECASE)
    sizes = re.findall(r"(\d+) ?GB", shown)
    same_size = not size or not sizes or size.removesuffix("GB") in sizes
    return same_size and re.search(rf"(?<![a-z0-9]){words}(?![a-z0-9])", shown, re.IGNORECASE) is not None


def hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES hides every GPU: it is empty, or -1."""
    return os.environ.get(CHOICE, "all").strip() in ("", "-1")


def visible() -> list[dict[str, str]]:
    """What the driver says of each GPU that CUDA_VISIBLE_DEVICES does not hide, by the names of `FIELDS`.

    Empty where nvidia-smi is not installed, or where all are hidden.

    Raises:
        UserError: the driver does not list every GPU, or the variable does not name some of them.
    """
    chosen = os.environ.get(CHOICE)
    if hidden():
        return []
    try:
        answer = subprocess.run(ASK, capture_output=True, text=True, errors="replace", timeout=LIMIT)
    except FileNotFoundError:
        return []
    except subprocess.TimeoutExpired as error:
        raise UserError(f"nvidia-smi did not answer in {LIMIT:.0f} s: run it by itself, or set {CHOICE}=") from error
    except OSError as error:
        raise UserError(f"nvidia-smi cannot be started ({error.strerror}): remove it from PATH") from error
    rows = [[cell.strip() for cell in line.split(",")] for line in answer.stdout.splitlines() if line.strip()]
    there = [dict(zip(FIELDS, row, strict=True)) for row in rows if len(row) == len(FIELDS)]
    if not there or (chosen is None and (answer.returncode or len(there) < len(rows))):
        says = one_line(f"{answer.stdout}\n{answer.stderr}").strip()[:QUOTED] or "nothing"
        fix = f"choose others by {CHOICE}" if there else f"repair the driver, or set {CHOICE}="
        raise UserError(
            f"nvidia-smi lists {len(there)} GPUs, exit code {answer.returncode}, and says {says!r}: {fix}"
        )
    return there if chosen is None else _chosen(there, chosen)


def _chosen(there: list[dict[str, str]], chosen: str) -> list[dict[str, str]]:
    """The GPUs that CUDA_VISIBLE_DEVICES names, each by its index or by the beginning of its UUID.

    Raises:
        UserError: an entry names none of them, several, or one again: CUDA would use fewer GPUs, without a word.
    """
    found: list[dict[str, str]] = []
    for one in (entry.strip() for entry in chosen.split(",")):
        named = [gpu for gpu in there if one == gpu["index"] or (one and gpu["uuid"].startswith(one))]
        if len(named) != 1 or named[0] in found:
            what = "no whole GPU" if not named else "several GPUs" if len(named) > 1 else "a GPU again"
            fix = f"give indexes ({', '.join(gpu['index'] for gpu in there)}), or whole UUIDs"
            raise UserError(f"{CHOICE}={chosen}: {one!r} names {what} here: {fix}")
        found += named
    return found


def find() -> Gpus | None:
    """The visible GPUs; None without.

    Raises:
        UserError: as `visible`; or they are of several kinds, or the driver does not say what they have.
    """
    there = visible()
    if not there:
        return None
    names = sorted({gpu["name"] for gpu in there})
    if len(names) > 1:
        raise UserError(f"GPUs of several kinds ({', '.join(names)}): choose some by {CHOICE}")
    for gpu in there:
        if wrong := _unusable(gpu):
            why = f"nvidia-smi shows {wrong}={gpu[wrong]!r} for GPU {gpu['index']} ({gpu['name']})"
            raise UserError(f"{why}, as for a part of a GPU (MIG) or for the host's memory: give --system FILE")
    fullest = min(there, key=lambda gpu: int(gpu["memory.free"]))
    total, free = min(int(gpu["memory.total"]) for gpu in there) / MIB, int(fullest["memory.free"]) / MIB
    major, minor = there[0]["compute_cap"].split(".")
    capability = int(major), int(minor)
    return Gpus(names[0], len(there), round(total, 1), round(free, 1), capability, fullest["index"])


def _unusable(gpu: dict[str, str]) -> str | None:
    """The first field of a GPU that is not what nvidia-smi shows of a whole one; None where all are."""
    total, free = gpu["memory.total"], gpu["memory.free"]
    usable = {
        "name": NAME.fullmatch(gpu["name"]),
        "memory.total": total.isdecimal() and is_size(int(total[:12])),
        "memory.free": total.isdecimal() and free.isdecimal() and int(free[:12]) <= int(total[:12]),
        "compute_cap": re.fullmatch(r"\d{1,3}\.\d{1,3}", gpu["compute_cap"]),
    }
    return next((name for name, right in usable.items() if not right), None)
