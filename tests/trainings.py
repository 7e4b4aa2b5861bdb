"""Short trainings of the tiny recipe, all with one model and one data set."""

import contextlib
import http.client
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import deterministic_rollouts
import psutil
from command import VERL

SIZES = ("tiny_model.warmup_steps=40", "tiny_data.validation=16", "data.train_batch_size=8")
SHORT = (*SIZES, "trainer.total_training_steps=3")


def start(folder: Path, *arguments: str, **env: str) -> subprocess.Popen:
    """`verl run` with the tiny recipe, shortened unless the arguments say otherwise."""
    command = [str(VERL), "run", "justrl_tiny", *SHORT, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **env}, stdout=pipe, stderr=pipe, text=True)


@dataclass(frozen=True)
class Trained:
    """A training that has ended: its run folder, and what it printed."""

    run: Path
    out: str
    err: str


@dataclass(frozen=True)
class Watched(Trained):
    """And where its processes listened meanwhile."""

    listeners: "Listeners"


class Listeners(threading.Thread):
    """Watches on which addresses a run's processes listen, and what vLLM's server says to one without its key."""

    def __init__(self, process: subprocess.Popen) -> None:
        super().__init__(daemon=True)
        self.process = process
        self.addresses: dict[str, set[str]] = {}  # by address, the processes
        self.answers: set[int] = set()

    def run(self) -> None:
        while self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    self.look(child)
            time.sleep(1)

    def look(self, child: psutil.Process) -> None:
        name = " ".join(child.cmdline())[:60]
        for connection in child.net_connections(kind="tcp"):
            if connection.status == psutil.CONN_LISTEN:
                address = connection.laddr.ip.removeprefix("::ffff:")  # IPv4's addresses in IPv6
                self.addresses.setdefault(address, set()).add(name)
                if "vLLMHttpServer" in name and 401 not in self.answers:
                    self.answers.add(status(f"http://127.0.0.1:{connection.laddr.port}/v1/models"))


def status(url: str) -> int:
    try:
        return urllib.request.urlopen(url, timeout=2).status
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, http.client.HTTPException):
        return 0  # no HTTP, or not yet


SECOND_ARM_STEPS = 5


def second_arm(folder: Path) -> tuple[str, ...]:
    """The paper's second arm: the overlong penalty, and the verifier as the reward.

    Its responses follow from the weights, so that a run which goes another way to its end can be compared with it.
    """
    return (
        *("--ablation", "overlong_penalty", "--ablation", "robust_verifier"),
        *(f"trainer.total_training_steps={SECOND_ARM_STEPS}", "trainer.test_freq=2"),
        *deterministic_rollouts.config(folder),
    )


def train_second_arm(folder: Path) -> Watched:
    """It in the run folder `both`, without any interruption."""
    process = start(folder, "--out", "both", *second_arm(folder), PYTHONPATH=with_test_modules())
    listeners = Listeners(process)
    listeners.start()
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, out + err
    return Watched(folder / "both", out, err, listeners)


def with_test_modules() -> str:
    """PYTHONPATH for a run whose processes import a module of the tests."""
    return os.pathsep.join([str(deterministic_rollouts.HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
