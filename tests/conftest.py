"""One thread for each process, Triton's interpreter where there is no GPU, and a Python for scripts that has imported the
libraries.

Starting a script costs ten seconds of imports. Tests that run one as a command use `os.environ["WARM_PYTHON"]` in the place of
`sys.executable`, but for one run of each script, which starts as a person does.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # read where torch is imported first

import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read where triton is imported first


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers of xdist share the one of the process that started them
        os.environ["WARM_PYTHON"] = warm_python()


def warm_python() -> str:
    """Starts tests/warm_server.py, which ends with this process. Where there is a GPU, which forks cannot use: a plain Python."""
    if torch.cuda.is_available() or not hasattr(os, "pidfd_open"):
        return sys.executable
    here = Path(__file__).parent
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    command = [sys.executable, here / "warm_server.py", folder / "socket"]
    warm_python.server = subprocess.Popen(command, stdin=subprocess.PIPE)
    while not (folder / "socket").exists():
        assert warm_python.server.poll() is None
        time.sleep(0.01)
    client = folder / "python"
    client.write_text(f"#!{sys.executable} -IS\n" + (here / "warm_client.py").read_text(encoding="utf-8"), encoding="utf-8")
    client.chmod(0o700)
    return str(client)
