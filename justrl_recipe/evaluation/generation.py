"""Responses from vLLM, one engine per GPU (or group of GPUs, or CPU), each handed on as soon as it is finished."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.job import Generated, Job, Refused
from justrl_recipe.run.log import errors
from justrl_recipe.run.progress import duration
from justrl_recipe.terminal import Console

# What vLLM has to be told on a CPU; the user's environment goes first.
ON_CPU = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TORCHDYNAMO_DISABLE": "1",
}


class EngineFailed(Exception):
    """An engine ended without finishing its job; its text says why and where to read on."""


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them; empty on a machine without."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [str(index) for index in range(torch.cuda.device_count())]
    return named.split(",")[: len(found)] if named else found


def generate(job: Job, what: str, log_folder: Path) -> Generator[Generated, None, None]:
    """Do a job on all GPUs, with a progress bar titled `what`; what an engine prints goes to `log_folder`.

    The requests are dealt out like cards, the same way each time, so that engines of the same number see the same.

    Raises:
        UserError: the model cannot do it.
        EngineFailed: an engine broke down; what was finished has been handed on.
    """
    if not job.requests:
        return
    gpus, group = visible_gpus(), job.resources.tensor_parallel
    if group > max(1, len(gpus)):
        raise UserError(f"--tensor-parallel {group} needs as many GPUs; here are {len(gpus) or 'none'}")
    count = max(1, len(gpus) // group)
    engines = min(count, len(job.requests))
    with ExitStack() as stack, Shown(what, len(job.requests)) as shown:
        running: dict[Connection, tuple[int, Path]] = {}
        for rank in range(engines):
            share = replace(job, requests=job.requests[rank::engines])
            devices = gpus[rank * group : (rank + 1) * group]
            log = log_folder / f"{what}-{rank}.log"
            running[_start(share, devices, stack, log)] = rank, log
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                rank, log = running[connection]
                message = _receive(connection, log)
                if message is None:
                    del running[connection]
                elif isinstance(message, Refused):
                    raise UserError(message.why)
                elif isinstance(message, Generated):
                    shown.finished(message.tokens)
                    yield replace(message, index=message.index * engines + rank)
                else:
                    shown.tokens(rank, message)


def _start(job: Job, devices: list[str], stack: ExitStack, log_file: Path) -> Connection:
    ours, theirs = socket.socketpair()
    connection = stack.enter_context(Connection(ours.detach()))
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(devices)} if devices else ON_CPU | os.environ
    with theirs, log_file.open("wb") as log:
        module = "justrl_recipe.evaluation.engine"
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(theirs.fileno()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**env, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"},  # deterministic scheduling
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C comes to this process alone, and it ends them
        )
    stack.callback(_end, process)
    with suppress(BrokenPipeError):  # an engine that has ended already is found so when it does not answer
        connection.send(job)
    return connection


def _end(process: subprocess.Popen) -> None:
    """End an engine with its own workers; there is nothing in it to lose."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _receive(connection: Connection, log: Path) -> Generated | Refused | int | None:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        found = errors(log)
        raise EngineFailed(f"{found[-1] if found else 'vLLM ended'} (whole log: {log})") from error


class Shown:
    """What a person sees: a bar on a terminal, a line for every twentieth part elsewhere."""

    def __init__(self, what: str, total: int):
        self.what, self.total = what, total
        self.done = 0
        self.finished_tokens = 0
        self.by_engine: dict[int, int] = {}
        self.started: float | None = None  # by the first token: start-up is no generation
        self.console = Console(stderr=True, soft_wrap=True)
        what_it_does, rate = TextColumn("{task.description}"), TextColumn("{task.fields[rate]}")
        self.progress = Progress(
            *(what_it_does, BarColumn(), MofNCompleteColumn(), rate),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task(what, total=total, rate="starting vLLM")

    def __enter__(self) -> "Shown":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def tokens(self, engine: int, tokens: int) -> None:
        """An engine has generated so many tokens in all."""
        self.started = self.started or time.monotonic()
        self.by_engine[engine] = tokens
        self.progress.update(self.task, rate=self.rate())

    def finished(self, tokens: int) -> None:
        """One more response is there."""
        self.done += 1
        self.finished_tokens += tokens
        self.progress.update(self.task, completed=self.done, rate=self.rate())
        step = max(1, self.total // 20)
        if not self.console.is_terminal and (self.done % step == 0 or self.done == self.total):
            self.console.print(f"{self.what} {self.done:,}/{self.total:,}  {self.rate()}")

    def rate(self) -> str:
        """Tokens per second so far, and the time left at the mean length of what is finished."""
        generated = max(self.finished_tokens, sum(self.by_engine.values()))
        seconds = time.monotonic() - (self.started or time.monotonic())
        if not generated or not seconds:
            return "starting"
        per_second = generated / seconds
        if not self.done:
            return f"{per_second:,.0f} tokens/s"
        expected = self.total * self.finished_tokens / self.done
        return f"{per_second:,.0f} tokens/s  {duration(max(0.0, expected - generated) / per_second)} left"
