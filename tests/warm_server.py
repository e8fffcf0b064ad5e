"""An interpreter that has imported the large libraries, and forks for each script that it is to run.

    python tests/warm_server.py SOCKET

Each connection (of tests/warm_client.py) is one script. It runs in a session of its own, is killed where its connection ends, and
imports mmpt itself. The libraries are imported before the first; all ends with standard input.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import runpy
import select
import signal
import socket
import sys
import types

LIBRARIES = (
    "torch",
    "torchaudio",
    "transformers",
    "deepspeed",
    "peft",
    "open_clip",
    "librosa",
    "scipy.signal",
    "pydantic",
    "rich",
)
MOST_FILES = 64
APART = 512
"""Beyond the numbers that a process's files have."""


def serve(listener: socket.socket) -> dict:
    """Returns a request, in the process that is to run it."""
    before, imported = dict(os.environ), None
    while True:
        ready, _, _ = select.select([sys.stdin, listener], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if imported is None:
            for name in LIBRARIES:
                importlib.import_module(name)
            assert sys.modules["deepspeed"].ops.__compatible_ops__  # found by a compiler, at the first look
            gc.freeze()
            imported = {name: value for name, value in os.environ.items() if name not in before}
        while _some_ended():
            pass
        if os.fork() == 0:
            listener.close()
            os.setsid()
            request = attend(connection)
            return {**request, "environment": {**imported, **request["environment"]}}
        connection.close()


def attend(connection: socket.socket) -> dict:
    """Fork for the request and return it there. This process passes signals on, and the exit code back."""
    request = received(connection)
    script = os.fork()
    if script == 0:
        connection.close()
        return request
    for file in request["files"]:
        os.close(file)
    ended = os.pidfd_open(script)
    while True:
        ready, _, _ = select.select([connection, ended], [], [])
        if ended in ready:
            _, status = os.waitpid(script, 0)
            with contextlib.suppress(BrokenPipeError):  # where nobody waits any more
                connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        for number in connection.recv(16) or [None]:
            os.kill(script, signal.SIGKILL if number is None else number)


def received(connection: socket.socket) -> dict:
    """One line of JSON: `python`, `arguments`, `folder`, `environment`, `numbers`; beside it the files of those numbers."""
    data, files, *_ = socket.recv_fds(connection, 1 << 16, MOST_FILES)
    while not data.endswith(b"\n"):
        data += connection.recv(1 << 16)
    return {**json.loads(data), "files": files}


def run(
    python: str, arguments: list[str], folder: str, environment: dict[str, str], files: list[int], numbers: list[int]
) -> None:
    """As `python *arguments` does: some flags, then a script, -c CODE or -m MODULE. With `WARM_CHILDREN` in the environment
    what it starts by multiprocessing is a fork, too."""
    apart = []
    for file in files:
        apart.append(fcntl.fcntl(file, fcntl.F_DUPFD, APART))
        os.close(file)
    for file, number in zip(apart, numbers, strict=True):
        os.dup2(file, number)
        os.close(file)
    read_anew(environment)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[1:1] = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.modules["numpy"].random.seed()
    sys.executable = python
    if environment.get("WARM_CHILDREN"):
        multiprocessing.set_executable(python)
    unbuffered = bool(environment.get("PYTHONUNBUFFERED"))
    while arguments[0].startswith("-") and arguments[0] not in ("-c", "-m"):
        flag, *arguments = arguments
        unbuffered, sys.dont_write_bytecode = unbuffered or flag == "-u", sys.dont_write_bytecode or flag == "-B"
    sys.stdout.reconfigure(line_buffering=False, write_through=unbuffered)
    first, *rest = arguments
    if first == "-m":
        sys.path[0], sys.argv = folder, rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        return
    if first == "-c":
        code, name, sys.path[0] = rest.pop(0), "<string>", ""
    else:
        with open(first, encoding="utf-8") as file:
            code, name, sys.path[0] = file.read(), first, os.path.dirname(os.path.abspath(first))
    sys.argv = [first, *rest]
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if first != "-c":
        main.__file__ = name
    exec(compile(code, name, "exec"), main.__dict__)


def read_anew(environment: dict[str, str]) -> None:
    """huggingface_hub reads its variables as it is imported: where they are others it is imported again."""
    here, there = ({name: value for name, value in one.items() if name.startswith("HF_")} for one in (os.environ, environment))
    if here != there:
        for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            del sys.modules[name]


def _some_ended() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        found = serve(listening)
    run(**found)
