"""math-verify in worker processes that are killed at a limit, behind one helper process.

Why a helper and not a pool in the caller: workers are forked ready to work, and forking is safe only from a
process without models, event loops and threads of others. So the caller starts `python -m
justrl_recipe.reward_fns.math_workers`, which imports math-verify once, forks its workers with pebble, and ends
when the caller does. It works from any thread, under asyncio, in Ray's workers and after a fork.
"""

import itertools
import logging
import multiprocessing
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection

TIME_LIMIT = 1.3  # seconds of one comparison; a sensible one takes milliseconds
MEMORY_LIMIT = 2 << 30  # bytes of address space of one worker
WORKERS = max(2, min(8, os.cpu_count() or 1))
TASKS_PER_WORKER = 2_000  # then a fresh one: ANTLR's and sympy's caches grow with what they see
WARM_UP = [
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"(-\infty,-8)\cup (8,\infty)", "(-8,3]"),
    (r"y=3\cos(2\pi x)-e^{-t}", r"\ln{a}\cdot a^x"),
    (r"\left(3,\frac{\pi}{2}\right)", "(2, 3)"),
    (r"\{1,2,3\}", "1,2,5"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\3\end{bmatrix}"),
    (r"3+2i,3\pm i", "-3-2i,4"),
    ("x>2", "2<x"),
    (r"7*\sin (\pi *x/5)+1", r"\frac{8}{5-4\cos(q^2)}"),
    (r"|x-1|+\sqrt[3]{2}", r"\log_2 8 - \binom{5}{2}"),
    ("5x-7y+4=0", "f(1) and g"),
]


class MathWorkers:
    """The caller's end: one helper process, shared by all threads of this process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        command = [sys.executable, "-m", "justrl_recipe.reward_fns.math_workers", str(theirs.fileno())]
        with theirs:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[bool]] = {}
        threading.Thread(target=self._receive, name="math-workers", daemon=True).start()

    def equivalent(self, gold: str, pred: str) -> bool:
        """Block until the verdict; ConnectionError when the helper process has ended."""
        verdict: Future[bool] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = verdict
            try:
                self.connection.send((number, gold, pred))
            except OSError as error:
                raise self._ended() from error
        return verdict.result()

    def _receive(self) -> None:
        try:
            while True:
                number, verdict = self.connection.recv()
                self._waiting.pop(number).set_result(verdict)
        except (EOFError, OSError):
            ended = self._ended()
        with self._lock:
            for waiting in self._waiting.values():
                waiting.set_exception(ended)

    def _ended(self) -> ConnectionError:
        return ConnectionError(f"the math workers' process ended with code {self.process.wait()}")


_workers: MathWorkers | None = None
_workers_lock = threading.Lock()


def equivalent(gold: str, pred: str) -> bool:
    """`equivalence.equivalent`, or False at the limit of time or memory; blocks until one of them.

    Time in the queue does not count. The first call of a process starts the workers, which takes seconds.

    Raises:
        RuntimeError: the workers cannot run, as when math-verify is not installed.
    """
    for _ in range(2):  # a helper that was killed is replaced once
        workers = start()
        try:
            return workers.equivalent(gold, pred)
        except ConnectionError as error:
            failure = error
            _forget(workers)
    raise RuntimeError(f"{failure}, twice; its own message stands above") from failure


def start() -> MathWorkers:
    """This process's workers, started by the first call."""
    global _workers
    with _workers_lock:
        if _workers is None:
            _workers = MathWorkers()
        return _workers


def _forget(workers: MathWorkers) -> None:
    global _workers
    with _workers_lock:
        if _workers is workers:
            _workers = None


def _after_fork() -> None:
    """A forked child starts its own, and lets go of its parent's, which would outlive the parent otherwise."""
    global _workers, _workers_lock
    _workers_lock = threading.Lock()
    if _workers is not None:
        _workers.connection.close()
        _workers = None


os.register_at_fork(after_in_child=_after_fork)


# From here on: the helper process and its workers.


def serve(descriptor: int) -> None:
    """Answer the caller's requests until it closes its end."""
    from pebble import ProcessPool  # only the helper needs it

    from justrl_recipe.reward_fns import equivalence

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's business
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time-outs are off
    for gold, pred in WARM_UP:
        equivalence.equivalent(gold, pred)
    connection, lock = Connection(descriptor), threading.Lock()
    fork = multiprocessing.get_context("fork")
    with ProcessPool(WORKERS, TASKS_PER_WORKER, _enter_worker, [descriptor], context=fork) as pool:
        while True:
            try:
                number, gold, pred = connection.recv()
            except (EOFError, OSError):
                pool.stop()
                return
            task = pool.schedule(_compare, args=[gold, pred], timeout=TIME_LIMIT)
            task.add_done_callback(partial(_reply, connection, lock, number))


def _reply(connection: Connection, lock: threading.Lock, number: int, task: Future[bool]) -> None:
    error = task.exception()
    if isinstance(error, BrokenProcessPool):
        os._exit(1)  # no verdict: the caller asks again
    with lock:
        connection.send((number, error is None and task.result()))


def _enter_worker(descriptor: int) -> None:
    os.close(descriptor)  # else the caller would not see the helper end
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler waits for Python code, a hang may be in C
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


def _compare(gold: str, pred: str) -> bool:
    from justrl_recipe.reward_fns import equivalence

    signal.setitimer(signal.ITIMER_REAL, 2 * TIME_LIMIT)  # ends a worker whose pool was killed
    try:
        return equivalence.equivalent(gold, pred)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
