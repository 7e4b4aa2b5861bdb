"""What a log of veRL, Ray and vLLM says about why a run ended."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

from justrl_recipe.terminal import plain

PREFIX = re.compile(r"^(?:\((?:[\w:]+ )?pid=\d+(?:, ip=[\w.:]+)?\) ?|\[rank\d+\]: ?)")  # Ray's, torch's
ERROR_LINE = re.compile(r"^(?:[A-Za-z_]\w*\.)*(\w*(?:Error|Exception|Exit|Interrupt))\b(?::.*)?$")
OURS = re.compile(r"^justrl_recipe(?:\.\w+)*\.(?=\w+:)")  # the module of an error of this package
RAY_WRAPPERS = {"RayTaskError", "ActorDiedError", "RayActorError", "WorkerCrashedError", "ActorUnavailableError"}
# Ray 2.60's raylet, and the first lines of its ActorDiedError.
DEAD_WORKER = re.compile(r"A worker died or was killed .* Worker PID: (\d+)")
ACTOR = re.compile(r"class_name: (?:\S*\.)?(\w+)\n(?:.*\n){0,3}?.*\bpid: (\d+)")
SPEAKER = re.compile(r"\((\w+) pid=(\d+)")


def errors(log: Path) -> list[str]:
    """The distinct errors in a log, first to last: those that say more than that Ray passed one on, if any do."""
    found: dict[str, bool] = {}
    for line in _lines(log):
        if match := ERROR_LINE.match(line):
            found[line] = match[1] not in RAY_WRAPPERS
    return [line for line, says_more in found.items() if says_more] or list(found)


def reason(log: Path, returncode: int) -> str:
    """Why a training process ended: the first error or dead worker in its log, and the last error if it is another.

    veRL goes on for a while without a worker or a response, so that what ends it is seldom the cause.
    """
    found = [OURS.sub("", line) for line in errors(log)]
    if dead := _dead_worker(log, before=found[0] if found else None):
        found = [dead, *(line for line in found if not line.startswith("ray."))]
    if not found:
        return f"exit code {returncode}" if returncode > 0 else f"killed by {signal.Signals(-returncode).name}"
    return found[0] if found[-1] == found[0] else f"{found[0]}; then {found[-1]}"


def _dead_worker(log: Path, before: str | None) -> str | None:
    """The first worker that died without an error of its own, where no other error came before it."""
    text = plain(log.read_text(errors="replace"))
    names = {pid: name for name, pid in SPEAKER.findall(text)} | {pid: name for name, pid in ACTOR.findall(text)}
    for line in _lines(log):
        if dead := DEAD_WORKER.search(line):
            who = f"{names.get(dead[1], 'a worker')} (pid {dead[1]})"
            return f"{who} died: it was killed, the machine was out of memory, or it crashed"
        if before is not None and OURS.sub("", line) == before:
            break
    return None


def _lines(log: Path) -> Iterator[str]:
    """The lines of a log without control sequences and the names of the processes that wrote them."""
    with log.open(errors="replace") as lines:
        for raw in lines:
            yield PREFIX.sub("", plain(raw)).strip()
