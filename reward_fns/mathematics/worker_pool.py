"""The helper process behind workers.py, and its worker processes: one pool for all callers of a node.

Two limits. `CPU_LIMIT` counts the worker's own CPU time, so that a verdict does not depend on what else the machine
does; an answer that exceeds it is not equal by computation. `WALL_LIMIT` is for what does not compute. When it fires,
or a worker is killed from outside, there is no verdict.
"""

import contextlib
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from concurrent.futures import Future, TimeoutError
from functools import partial
from multiprocessing.connection import Connection, Listener

from pebble import ProcessExpired, ProcessPool

from justrl_recipe.reward_fns.mathematics.workers import (
    NO_VERDICT,
    READY,
    START_LIMIT,
    TIMED_OUT,
    WALL_LIMIT,
    peer,
)

CPU_LIMIT = 1.3  # seconds of one comparison; a sensible one takes milliseconds
MEMORY_LIMIT = 2 << 30  # bytes of address space of one worker
WORKERS = max(2, min(8, os.cpu_count() or 1))
TASKS_PER_WORKER = 2_000  # then a fresh one: ANTLR's and sympy's caches grow with what they see
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
    (r"\frac{1}{2}\ln|\frac{x-1}{x+1}|+C", r"\ln|x-1|-\frac{1}{3}\ln|\sec x+\tan x|+C"),
    (r"2\sqrt{a^2+b^2}", r"\binom{n}{k}"),
]


def serve(name: str) -> None:
    """Answer the requests of every process that connects to `name`, until the last one has closed its end."""
    try:
        listener = Listener(f"\0{name}", "AF_UNIX", backlog=128)
    except OSError:
        return  # another process was faster
    from justrl_recipe.reward_fns.mathematics import equality  # takes seconds, so only the process that won does it

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the callers' business
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own time-outs are off
    for gold, pred in WARM_UP:
        equality.equivalent(gold, pred)
    clients: set[Connection] = set()
    context = multiprocessing.get_context("fork")
    pool = ProcessPool(WORKERS, TASKS_PER_WORKER, _enter_worker, (listener, clients), context)
    nobody_came = threading.Timer(START_LIMIT, _end_without, [clients])
    nobody_came.daemon = True
    nobody_came.start()
    while True:
        client = listener.accept()
        if peer(client)[1] != os.getuid():
            client.close()
            continue
        with contextlib.suppress(OSError):  # the caller may have ended
            client.send(READY)
        clients.add(client)
        threading.Thread(target=_answer, args=(client, pool, clients), daemon=True).start()


def _answer(client: Connection, pool: ProcessPool, clients: set[Connection]) -> None:
    lock = threading.Lock()
    with contextlib.suppress(EOFError, OSError):
        while True:
            number, gold, pred = client.recv()
            task = pool.schedule(_compare, args=[gold, pred], timeout=WALL_LIMIT)
            task.add_done_callback(partial(_reply, client, lock, number))
    clients.discard(client)
    _end_without(clients)


def _end_without(clients: set[Connection]) -> None:
    """End this process where it has no callers, and its workers at once, even in the middle of a hang."""
    if not clients:
        os.killpg(os.getpgid(0), signal.SIGKILL)


def _reply(client: Connection, lock: threading.Lock, number: int, task: Future[bool]) -> None:
    with lock, contextlib.suppress(OSError):  # the caller may have ended
        client.send((number, _verdict(task)))


def _verdict(task: Future[bool]) -> bool | str | None:
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, TimeoutError):
        return NO_VERDICT  # it does not compute
    if isinstance(error, ProcessExpired):  # killed by its own answer, or from outside
        by = -error.exitcode
        return TIMED_OUT if by == signal.SIGPROF else False if by in (signal.SIGSEGV, signal.SIGABRT) else NO_VERDICT
    return False if isinstance(error, Exception) and not isinstance(error, OSError) else NO_VERDICT


def _enter_worker(listener: Listener, clients: set[Connection]) -> None:
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
