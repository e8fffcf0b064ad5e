"""Stands for a Python interpreter: runs its arguments in a fork of tests/warm_server.py, whose socket lies beside this file.

Has the standard files, the working directory, the environment, the signals and the end of that process, and takes it along where
it is killed itself. Run by `python -IS`, so that it starts in hundredths of a second.
"""

import json
import os
import signal
import socket
import sys

NAMES = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2")


def main() -> None:
    here = os.path.abspath(sys.argv[0])
    request = {"python": here, "arguments": sys.argv[1:], "folder": os.getcwd(), "environment": dict(os.environ)}
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(os.path.join(os.path.dirname(here), "socket"))
    data = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(connection, [data], [0, 1, 2])
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
