"""Stands for a Python interpreter: runs its arguments in a fork of tests/warm_server.py, whose socket lies beside this file.

Has the open files, the working directory, the environment, the signals and the end of that process, and takes it along where it
is killed itself. Run by `python -IS`, so that it starts in hundredths of a second.
"""

import json
import os
import signal
import socket
import sys

NAMES = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")


def inherited() -> list[int]:
    """The standard files, and what else its starter left open for it, such as the pipes of multiprocessing."""
    found = {0, 1, 2}
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.get_inheritable(number):
                found.add(number)
        except OSError:  # it was open for the list alone
            pass
    return sorted(found)


def main() -> None:
    here = os.path.abspath(sys.argv[0])
    numbers = inherited()
    request = {"python": here, "arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.path.join(os.path.dirname(here), "socket"))
    data = json.dumps({**request, "numbers": numbers}).encode() + b"\n"
    sent = socket.send_fds(connection, [data], numbers)
    connection.sendall(data[sent:])
    for name in NAMES:
        signal.signal(getattr(signal, name), lambda number, _: connection.sendall(bytes([number])))
    answer = b""
    while part := connection.recv(16):
        answer += part
    code = int(answer or -signal.SIGKILL)
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
