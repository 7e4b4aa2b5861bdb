"""Responses from vLLM: one process of `vllm_engine.py` per GPU (or group of GPUs, or CPU), and its progress."""

import math
import os
import socket
import time
from collections.abc import Generator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from rich import progress

from justrl_recipe import files, processes
from justrl_recipe.config import SYSTEMS
from justrl_recipe.errors import UserError
from justrl_recipe.evaluation.models import Model
from justrl_recipe.evaluation.sampling import Sampling
from justrl_recipe.terminal import Console

ENGINE = "justrl_recipe.evaluation.vllm_engine"


@dataclass(frozen=True)
class EngineOptions:
    """An engine uses `tensor_parallel` GPUs and runs `max_num_seqs` sequences at a time (None: vLLM's default)."""

    tensor_parallel: int = 1
    max_num_seqs: int | None = None


@dataclass(frozen=True)
class Prompt:
    """The user's message, before the chat template; `name` is for error messages."""

    name: str
    text: str


@dataclass(frozen=True)
class Workload:
    """What one engine generates.

    Attributes:
        prompts: also those that no request asks for: the engine's context length is that of the longest.
        requests: for each response wanted, the number of its prompt and its seed.
    """

    model: Model
    prompts: list[Prompt]
    requests: list[tuple[int, int]]
    sampling: Sampling
    engine: EngineOptions = field(default_factory=EngineOptions)


@dataclass(frozen=True)
class Generated:
    """The response to the workload's request number `index`."""

    index: int
    text: str
    tokens: int
    finish_reason: str


class EngineFailed(Exception):
    """An engine ended before its workload was done; the text says why and names the log."""


def generate(workload: Workload, title: str, log_folder: Path) -> Generator[Generated, None, None]:
    """Generate on all GPUs and yield each response as soon as it is finished.

    Requests are dealt to the engines in turn, so that the same number of engines gives each the same requests.

    Args:
        title: of the progress bar and of the engines' logs in `log_folder`.

    Raises:
        UserError: the model cannot do it.
        EngineFailed: an engine ended early; what was finished has been yielded.
    """
    if not workload.requests:
        return
    gpus, group = visible_gpus(), workload.engine.tensor_parallel
    if group > max(1, len(gpus)):
        raise UserError(f"--tensor-parallel {group} needs as many GPUs; here are {len(gpus) or 'none'}")
    engines = min(max(1, len(gpus) // group), len(workload.requests))
    report = ProgressReport(title, len(workload.requests))
    with ExitStack() as stack, report.bar:
        running: dict[Connection, tuple[int, Path]] = {}
        for rank in range(engines):
            share = replace(workload, requests=workload.requests[rank::engines])
            log = log_folder / f"{title}-{rank}.log"
            running[_start(share, gpus[rank * group : (rank + 1) * group], stack, log)] = rank, log
        while running:
            for connection in wait(list(running)):
                assert isinstance(connection, Connection)
                rank, log = running[connection]
                message = _receive(connection, log)
                if message is None:
                    del running[connection]
                elif isinstance(message, str):
                    raise UserError(message)
                elif isinstance(message, Generated):
                    report.finished(message.tokens)
                    yield replace(message, index=message.index * engines + rank)
                else:
                    report.generated(rank, message)


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them; empty on a machine without."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = [str(index) for index in range(torch.cuda.device_count())]
    return named.split(",")[: len(found)] if named else found


def cpu_environment() -> dict[str, str]:
    """What the system file `cpu` tells vLLM; not OMP_NUM_THREADS, since no trainer shares the cores here."""
    variables = files.read_yaml(SYSTEMS / "cpu.yaml")["ray_kwargs"]["ray_init"]["runtime_env"]["env_vars"]
    return {name: value for name, value in variables.items() if name != "OMP_NUM_THREADS"}


def _start(workload: Workload, gpus: list[str], stack: ExitStack, log: Path) -> Connection:
    """Start an engine that ends with `stack`, and send it its workload."""
    ours, theirs = socket.socketpair()
    connection = stack.enter_context(Connection(ours.detach()))
    env = os.environ | {"CUDA_VISIBLE_DEVICES": ",".join(gpus)} if gpus else cpu_environment() | os.environ
    env = {**env, "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}  # deterministic scheduling
    env["VLLM_RPC_BASE_PATH"] = stack.enter_context(processes.scratch_folder())  # for its sockets, which it leaves
    with theirs:
        arguments = str(theirs.fileno()), str(os.getpid())
        engine = processes.child(ENGINE, *arguments, log=log, env=env, pass_fds=[theirs.fileno()])
        stack.enter_context(engine)
    with suppress(BrokenPipeError):  # an engine that has ended already is noticed when it does not answer
        connection.send(workload)
    return connection


def _receive(connection: Connection, log: Path) -> Generated | str | int | None:
    try:
        return connection.recv()
    except (EOFError, OSError) as error:
        raise EngineFailed(f"{processes.failure(log)} (whole log: {log})") from error


class ProgressReport:
    """A progress bar on a terminal; elsewhere a line for every twentieth part."""

    def __init__(self, title: str, responses: int):
        self.title = title
        self.finished_tokens = 0
        self.tokens: dict[int, int] = {}  # by engine, as of its last report
        self.started: float | None = None  # with the first token: loading a model is not generation
        self.console = Console(stderr=True, soft_wrap=True)
        self.time_left = progress.TimeRemainingColumn()
        self.bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            self.time_left,
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            speed_estimate_period=math.inf,  # seconds; a response may take many minutes
        )
        self.bar.add_task(title, total=responses, rate="starting vLLM")
        self.task = self.bar.tasks[0]

    def generated(self, engine: int, tokens: int) -> None:
        """An engine has generated so many tokens in all."""
        self.started = self.started or time.monotonic()
        self.tokens[engine] = tokens
        self.bar.update(self.task.id, rate=self.rate())

    def finished(self, tokens: int) -> None:
        """One more response is finished."""
        self.finished_tokens += tokens
        self.bar.update(self.task.id, advance=1, rate=self.rate())
        done, total = int(self.task.completed), int(self.task.total or 0)
        if not self.console.is_terminal and (done % max(1, total // 20) == 0 or done == total):
            self.console.print(f"{self.title} {done:,}/{total:,}  {self.rate()}  {self.time_left(self.task)} left")

    def rate(self) -> str:
        """Tokens per second so far."""
        seconds = time.monotonic() - self.started if self.started else 0
        tokens = max(self.finished_tokens, sum(self.tokens.values()))
        return f"{tokens / seconds:,.0f} tokens/s" if seconds else "starting"
