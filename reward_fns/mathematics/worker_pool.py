"""Comparisons in worker processes that are killed at a limit, behind one helper process for a node.

Why a helper and not a pool in the caller: workers are forked ready to work, and forking is safe only from a process
without models, event loops and threads of others. So the first caller of a node starts `python -m
justrl_recipe.reward_fns.mathematics.workers`, which imports math-verify once and forks its workers with pebble.
Every process of the same user and the same code connects to it, so veRL's reward workers share one pool of the size
of the node's CPUs. It ends when its last caller does. It works from any thread, under asyncio, in Ray's workers and
after a fork.

Two limits. `CPU_LIMIT` counts the worker's own CPU time, so that a verdict does not depend on what else the machine
does; an answer that exceeds it is not equal by computation. `WALL_LIMIT` is for what does not compute. When it
fires, or a worker is killed from outside, the comparison is repeated once, and then there is no verdict: it is
logged, counted (`no_verdicts`), and after `MAX_WITHOUT_VERDICT` in a row an error, since to score -1 then would
train on noise.
"""

import contextlib
import hashlib
import itertools
import logging
import multiprocessing
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, TimeoutError
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

CPU_LIMIT = 1.3  # seconds of one comparison; a sensible one takes milliseconds
WALL_LIMIT = 30.0  # seconds
QUEUE_LIMIT = 20 * WALL_LIMIT  # with the time until a worker is free
MEMORY_LIMIT = 2 << 30  # bytes of address space of one worker
WORKERS = max(2, min(8, os.cpu_count() or 1))
TASKS_PER_WORKER = 2_000  # then a fresh one: ANTLR's and sympy's caches grow with what they see
MAX_WITHOUT_VERDICT = 3
START_LIMIT = 120.0  # seconds until the helper takes connections
WARM_UP = [
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"(-\infty,-8)\cup (8,\infty)", "(-8,3]"),
    (r"y=3\cos(2\pi x)-e^{-t}", r"\ln{a}\cdot a^x"),
    (r"(3,\frac{\pi}{2})", "(2, 3)"),
    (r"\{1,2,3\}", r"1,2,\sqrt{5}"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix}1\\3\end{bmatrix}"),
    (r"3+2i,3\pm i", "-3-2i,4"),
    ("x>2", "2<x"),
    (r"7*\sin (\pi *x/5)+1", r"\frac{8}{5-4\cos(q^2)}"),
    (r"|x-1|+\sqrt[3]{2}", r"\log_2 8 - \binom{5}{2}"),
    ("5x-7y+4=0", "5x=7y-4"),
    ("(n+1)!", r"(n+1)\cdot n!"),
    (r"\sin(\frac{\pi}{12})", r"\frac{\sqrt{6}-\sqrt{2}}{4}"),
    (r"\lfloor \frac{n}{2} \rfloor", r"\log_2 3 + \arctan(2)"),
]
READY = "ready"
EQUAL, UNEQUAL, NO_VERDICT = True, False, None

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
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[bool | None]] = {}
        threading.Thread(target=self._receive, name="math-workers", daemon=True).start()

    def equivalent(self, gold: str, pred: str) -> bool | None:
        """Block until the verdict, or None without one; ConnectionError when the helper process has ended."""
        verdict: Future[bool | None] = Future()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = verdict
            try:
                self.connection.send((number, gold, pred))
            except OSError as error:
                raise ConnectionError("the math workers' process ended") from error
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
            ended = ConnectionError("the math workers' process ended")
        with self._lock:
            for waiting in self._waiting.values():
                waiting.set_exception(ended)


def _connect() -> tuple[Connection, int]:
    """A connection to the node's helper, which is started where there is none, and its process id."""
    started: subprocess.Popen | None = None
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        ours = socket.socket(socket.AF_UNIX)
        try:
            ours.connect(address())
        except OSError:
            ours.close()
            code = started.poll() if started else 0
            if code:
                raise ConnectionError(f"the math workers' process ended with code {code}") from None
            if started is None or code == 0:  # none, or one that lost the race and whose winner has ended
                command = [sys.executable, "-m", "justrl_recipe.reward_fns.mathematics.workers", address()[1:]]
                started = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
            time.sleep(0.05)
            continue
        pid, user = _peer(ours)
        if user != os.getuid():
            raise ConnectionError(f"the math workers' address belongs to another user ({user})")
        connection = Connection(ours.detach())
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


def _peer(connection: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end."""
    size = struct.calcsize("3i")
    pid, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, user


_workers: MathWorkers | None = None
_workers_lock = threading.Lock()
_no_verdicts = 0
_in_a_row = 0


def no_verdicts() -> int:
    """How many comparisons of this process ended without a verdict: at the wall-clock limit, or without a worker."""
    return _no_verdicts


def equivalent(gold: str, pred: str) -> bool:
    """`equality.equivalent`, or False at the limit of CPU time or memory; blocks until one of them.

    Time in the queue does not count. The first call of a node starts the workers, which takes seconds.

    Raises:
        RuntimeError: the workers cannot run, as when math-verify is not installed, or give no verdict repeatedly.
    """
    failure: ConnectionError | None = None
    for _ in range(2):  # a helper that was killed is replaced once, and a verdict asked for twice
        try:
            workers = start()
        except ConnectionError as error:
            failure = error
            continue
        try:
            verdict = workers.equivalent(gold, pred)
        except ConnectionError as error:
            failure = error
            _forget(workers)
            continue
        if verdict is not NO_VERDICT:
            _count(verdict=True)
            return verdict
        failure = None
    if failure is not None:
        raise RuntimeError(f"the worker processes cannot run: {failure}, twice; its own message stands above")
    if _count(verdict=False) >= MAX_WITHOUT_VERDICT:
        raise RuntimeError(f"the worker processes cannot run: no verdict {MAX_WITHOUT_VERDICT} times in a row")
    logger.warning("No verdict on an answer in %.0f s, scored as wrong (%d so far)", WALL_LIMIT, _no_verdicts)
    return False


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
        if _workers is None:
            _workers = MathWorkers()
        return _workers


def _forget(workers: MathWorkers) -> None:
    global _workers
    with _workers_lock:
        if _workers is workers:
            _workers = None


def _after_fork() -> None:
    """A forked child connects anew, and lets go of its parent's connection."""
    global _workers, _workers_lock
    _workers_lock = threading.Lock()
    if _workers is not None:
        _workers.connection.close()
        _workers = None


os.register_at_fork(after_in_child=_after_fork)


# From here on: the helper process and its workers.


def serve(name: str) -> None:
    """Answer the requests of every process that connects to `name`, until the last one has closed its end."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(f"\0{name}")
    except OSError:
        return  # another process was faster
    listener.listen(128)
    from pebble import ProcessPool  # only the helper needs these

    from justrl_recipe.reward_fns.mathematics import equality

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the callers' business
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time-outs are off
    for gold, pred in WARM_UP:
        equality.equivalent(gold, pred)
    clients: set[Connection] = set()
    context = multiprocessing.get_context("fork")
    with ProcessPool(WORKERS, TASKS_PER_WORKER, _enter_worker, (listener, clients), context) as pool:
        listener.settimeout(START_LIMIT)
        with contextlib.suppress(OSError):  # nobody came, or the last one has left
            while True:
                connection, _ = listener.accept()
                listener.settimeout(None)
                if _peer(connection)[1] != os.getuid():
                    connection.close()
                    continue
                client = Connection(connection.detach())
                with contextlib.suppress(OSError):  # the caller may have ended
                    client.send(READY)
                clients.add(client)
                threading.Thread(target=_answer, args=(client, pool, clients), daemon=True).start()
        pool.stop()
    os._exit(0)


def _answer(client: Connection, pool, clients: set[Connection]) -> None:
    lock = threading.Lock()
    with contextlib.suppress(EOFError, OSError):
        while True:
            number, gold, pred = client.recv()
            task = pool.schedule(_compare, args=[gold, pred], timeout=WALL_LIMIT)
            task.add_done_callback(partial(_reply, client, lock, number))
    clients.discard(client)
    if not clients:
        os.killpg(os.getpgid(0), signal.SIGKILL)  # the workers too, at once, even in the middle of a hang


def _reply(client: Connection, lock: threading.Lock, number: int, task: Future[bool]) -> None:
    with lock, contextlib.suppress(OSError):  # the caller may have ended
        client.send((number, _verdict(task)))


def _verdict(task: Future[bool]) -> bool | None:
    from pebble import ProcessExpired

    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, TimeoutError):
        return NO_VERDICT  # it does not compute
    if isinstance(error, ProcessExpired):  # killed by its own answer, or from outside
        return UNEQUAL if -error.exitcode in (signal.SIGPROF, signal.SIGSEGV, signal.SIGABRT) else NO_VERDICT
    return UNEQUAL if isinstance(error, Exception) and not isinstance(error, OSError) else NO_VERDICT


def _enter_worker(listener: socket.socket, clients: set[Connection]) -> None:
    """Let go of the helper's connections, so that they end with it, and take the limits of a worker."""
    listener.close()
    for client in clients.copy():
        client.close()
    for handled in (signal.SIGTERM, signal.SIGPROF):  # pebble's handler waits for Python code, a hang may be in C
        signal.signal(handled, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _compare(gold: str, pred: str) -> bool:
    from justrl_recipe.reward_fns.mathematics import equality

    signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT)  # CPU time of this process; its signal ends the process, in C too
    try:
        return equality.equivalent(gold, pred)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    serve(sys.argv[1])
