"""Comparisons in worker processes that are killed at a limit, behind one helper process for a node: the caller's end.

Why a helper and not a pool in the caller: workers are forked ready to work, and forking is safe only from a process
without models, event loops and threads of others. So the first caller of a node starts `python -m
justrl_recipe.reward_fns.mathematics.worker_pool`, which imports math-verify once and forks its workers with pebble.
Every process of the same user and the same code connects to it, so veRL's reward workers share one pool of the size
of the node's CPUs. It ends when its last caller does. It works from any thread, under asyncio, in Ray's workers and
after a fork.

When the pool gives no verdict, the comparison is repeated once. Then it is logged, counted (`no_verdicts`), and after
`MAX_WITHOUT_VERDICT` in a row an error, since to score -1 then would train on noise.
"""

import hashlib
import itertools
import logging
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, TimeoutError
from multiprocessing.connection import Client, Connection
from pathlib import Path

WALL_LIMIT = 30.0  # seconds of one comparison, see worker_pool.py
QUEUE_LIMIT = 20 * WALL_LIMIT  # with the time until a worker is free
MAX_WITHOUT_VERDICT = 3
START_LIMIT = 120.0  # seconds until the helper takes connections
READY = "ready"
ENDED = "the math workers' process ended"
NO_VERDICT = None
TIMED_OUT = "timed out"  # the verdict at the limit of CPU time, which the same answer would reach again

logger = logging.getLogger(__name__)


def address() -> str:
    """Of this user's pool for this code, in Linux's abstract namespace: no file is left behind."""
    here = Path(__file__).resolve().parent
    state = [sys.executable, *(f"{file} {file.stat().st_mtime_ns}" for file in sorted(here.glob("*.py")))]
    return f"\0justrl-math-{os.getuid()}-{hashlib.sha256(' '.join(state).encode()).hexdigest()[:16]}"


class MathWorkers:
    """The caller's end: a connection to the node's helper, shared by all threads of this process."""

    def __init__(self) -> None:
        self.connection, self.pid = _connect()
        self.ended = False
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[bool | str | None]] = {}
        threading.Thread(target=self._receive, name="math-workers", daemon=True).start()

    def equivalent(self, gold: str, pred: str) -> bool | str | None:
        """Block until the verdict, TIMED_OUT, or None without one; ConnectionError when the helper has ended."""
        verdict: Future[bool | str | None] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = verdict
            try:
                self.connection.send((number, gold, pred))
            except OSError as error:
                self.ended = True
                raise ConnectionError(ENDED) from error
        try:
            return verdict.result(QUEUE_LIMIT)
        except TimeoutError:
            return NO_VERDICT

    def _receive(self) -> None:
        try:
            while True:
                number, verdict = self.connection.recv()
                self._waiting.pop(number).set_result(verdict)  # even if the caller no longer waits
        except (EOFError, OSError):
            self.ended = True
        with self._lock:
            for waiting in self._waiting.values():
                waiting.set_exception(ConnectionError(ENDED))


def _connect() -> tuple[Connection, int]:
    """A connection to the node's helper, which is started where there is none, and its process id."""
    started: subprocess.Popen | None = None
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        try:
            connection = Client(address(), "AF_UNIX")
        except OSError:
            code = started.poll() if started else 0
            if code:
                raise ConnectionError(f"{ENDED} with code {code}") from None
            if started is None or code == 0:  # none, or one that lost the race and whose winner has ended
                command = [sys.executable, "-m", "justrl_recipe.reward_fns.mathematics.worker_pool", address()[1:]]
                started = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
            time.sleep(0.05)
            continue
        pid, user = peer(connection)
        if user != os.getuid():
            raise ConnectionError(f"the math workers' address belongs to another user ({user})")
        if not _is_answered(connection, deadline):
            connection.close()
            continue
        if started is not None:
            threading.Thread(target=started.wait, name="math-workers-end", daemon=True).start()
        return connection, pid
    raise ConnectionError(f"the math workers' process took no connection in {START_LIMIT:.0f} s")


def _is_answered(connection: Connection, deadline: float) -> bool:
    """Whether the helper has taken the connection: one that is being killed still has an address."""
    try:
        return connection.poll(max(deadline - time.monotonic(), 0)) and connection.recv() == READY
    except (EOFError, OSError):
        return False


def peer(connection: Connection) -> tuple[int, int]:
    """The process and the user at the other end."""
    ucred = struct.Struct("3i")
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        pid, user, _ = ucred.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size))
    return pid, user


_workers: MathWorkers | None = None
_workers_lock = threading.Lock()
_no_verdicts = 0
_in_a_row = 0


def no_verdicts() -> int:
    """How many comparisons of this process ended without a verdict: at the wall-clock limit, or without a worker."""
    return _no_verdicts


def equivalent(gold: str, pred: str) -> bool | None:
    """`equality.equivalent`, None at a limit of time, or False at that of memory; blocks until one of them.

    Time in the queue does not count. The first call of a node starts the workers, which takes seconds.

    Raises:
        RuntimeError: the workers cannot run, as when math-verify is not installed, or give no verdict repeatedly.
    """
    failure: ConnectionError | None = None
    for _ in range(2):  # a helper that was killed is replaced once, and a verdict asked for twice
        try:
            verdict = start().equivalent(gold, pred)
        except ConnectionError as error:
            failure = error
            continue
        if verdict is not NO_VERDICT:
            _count(verdict=True)
            return None if verdict == TIMED_OUT else bool(verdict)
        failure = None
    if failure is not None:
        raise RuntimeError(f"the worker processes cannot run: {failure}, twice; its own message stands above")
    if _count(verdict=False) >= MAX_WITHOUT_VERDICT:
        raise RuntimeError(f"the worker processes cannot run: no verdict {MAX_WITHOUT_VERDICT} times in a row")
    logger.warning("No verdict on an answer in %.0f s, scored as wrong (%d so far)", WALL_LIMIT, _no_verdicts)
    return None


def _count(verdict: bool) -> int:
    """Note whether there was a verdict; how many there were none of in a row."""
    global _no_verdicts, _in_a_row
    with _workers_lock:
        _no_verdicts += not verdict
        _in_a_row = 0 if verdict else _in_a_row + 1
        return _in_a_row


def start() -> MathWorkers:
    """This process's connection to the node's workers, made by the first call."""
    global _workers
    with _workers_lock:
        if _workers is None or _workers.ended:
            _workers = MathWorkers()
        return _workers


def _after_fork() -> None:
    """A forked child connects anew, and lets go of its parent's connection."""
    global _workers, _workers_lock
    _workers_lock = threading.Lock()
    if _workers is not None:
        _workers.connection.close()
        _workers = None


os.register_at_fork(after_in_child=_after_fork)
