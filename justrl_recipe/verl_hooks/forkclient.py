"""Stands in for a Python interpreter: asks forkserver.py for a fork and lives as long as that does.

Run as `python -I -S forkclient.py SOCKET ARGS...`, so with the standard library alone. Where the server has found
that it cannot be forked, this becomes the interpreter that it stands for.
"""

import json
import os
import signal
import socket
import sys
import time

SERVER_TIMEOUT = 600  # seconds for the server to import everything


def connect(path: str) -> socket.socket | None:
    """A connection to the server, which makes the socket once it has imported everything and listens; None where it
    cannot be forked."""
    folder = os.path.dirname(path)
    deadline = time.monotonic() + SERVER_TIMEOUT
    while time.monotonic() < deadline and os.path.isdir(folder):
        if os.path.exists(f"{folder}/unusable"):
            return None
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(path)
            return connection
        except FileNotFoundError:
            connection.close()
            time.sleep(0.02)
        except ConnectionRefusedError:
            break
    sys.exit(f"no fork server listens at {path}")


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


def main() -> int:
    fds = inheritable_fds()
    connection = connect(sys.argv[1])
    if connection is None:
        os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
    request = json.dumps({"argv": sys.argv[2:], "env": dict(os.environ), "cwd": os.getcwd(), "fds": fds}).encode()
    socket.send_fds(connection, [len(request).to_bytes(8, "big")], fds)
    connection.sendall(request)
    answer = connection.recv(8)
    if not answer:
        sys.exit("the fork server has ended")
    pid = int.from_bytes(answer, "big")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: os.kill(pid, number))
    for fd in fds:
        os.close(fd)
    connection.recv(1)  # nothing is ever sent: this ends when the fork does
    return 0


if __name__ == "__main__":
    sys.exit(main())
