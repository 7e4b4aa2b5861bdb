"""What a log of veRL, Ray and vLLM says about why a run ended."""

import re
from pathlib import Path

from justrl_recipe.processes import ending, errors, log_lines
from justrl_recipe.terminal import plain

OURS = re.compile(r"^justrl_recipe(?:\.\w+)*\.(?=\w+:)")  # the module of an error of this package
# Ray 2.60's raylet, and the first lines of its ActorDiedError.
DEAD_WORKER = re.compile(r"A worker died or was killed .* Worker PID: (\d+)")
ACTOR = re.compile(r"class_name: (?:\S*\.)?(\w+)\n(?:.*\n){0,3}?.*\bpid: (\d+)")
SPEAKER = re.compile(r"\((\w+) pid=(\d+)")


def reason(log: Path, returncode: int) -> str:
    """Why a training process ended: the first error or dead worker in its log, and the last error if it is another.

    veRL goes on for a while without a worker or a response, so that what ends it is seldom the cause.
    """
    found = [OURS.sub("", line) for line in errors(log)]
    if dead := _dead_worker(log, before=found[0] if found else None):
        found = [dead, *(line for line in found if not line.startswith("ray."))]
    if not found:
        return ending(returncode)
    return found[0] if found[-1] == found[0] else f"{found[0]}; then {found[-1]}"


def _dead_worker(log: Path, before: str | None) -> str | None:
    """The first worker that died without an error of its own, where no other error came before it."""
    text = plain(log.read_text(errors="replace"))
    names = {pid: name for name, pid in SPEAKER.findall(text)} | {pid: name for name, pid in ACTOR.findall(text)}
    for line in log_lines(log):
        if dead := DEAD_WORKER.search(line):
            who = f"{names.get(dead[1], 'a worker')} (pid {dead[1]})"
            return f"{who} died: it was killed, the machine was out of memory, or it crashed"
        if before is not None and OURS.sub("", line) == before:
            break
    return None
