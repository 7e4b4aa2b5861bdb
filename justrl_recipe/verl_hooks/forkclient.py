"""Stands in for a Python interpreter: asks forkserver.py for a fork and lives as long as that does.

Run as `python -I -S forkclient.py SOCKET ARGS...`, so with the standard library alone. Where the server has found
that it cannot be forked, this becomes the interpreter that it stands for.
"""

import json
import os
import signal
import socket
import sys


def inheritable_fds() -> list[int]:
    """The descriptors that a new interpreter would inherit: the standard ones and those marked so."""
    fds = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.get_inheritable(fd):
                fds.append(fd)
        except OSError:  # the descriptor of the listing itself, closed by now
            continue
    return fds


def ask(connection: socket.socket, path: str, fds: list[int]) -> int | None:
    """The process id of the fork, once the server has imported everything; None where it has ended."""
    request = json.dumps({"argv": sys.argv[2:], "env": dict(os.environ), "cwd": os.getcwd(), "fds": fds}).encode()
    try:
        connection.connect(path)
        socket.send_fds(connection, [len(request).to_bytes(8, "big")], fds)
        connection.sendall(request)
        answer = connection.recv(8)
    except (ConnectionError, FileNotFoundError):
        return None
    return int.from_bytes(answer, "big") or None


def main() -> int:
    path, fds = sys.argv[1], inheritable_fds()
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    pid = ask(connection, path, fds)
    if pid is None:
        if os.path.exists(f"{os.path.dirname(path)}/unusable"):
            os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
        sys.exit(f"no fork server listens at {path}")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    for fd in fds:
        os.close(fd)
    connection.recv(1)  # nothing is ever sent: this ends when the fork does
    return 0


if __name__ == "__main__":
    sys.exit(main())
