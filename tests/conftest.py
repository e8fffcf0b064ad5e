"""One thread for each process, Triton's interpreter where there is no GPU, and a Python for scripts that has imported the
libraries.

Starting a script costs ten seconds of imports. Tests that run one as a command use `os.environ["WARM_PYTHON"]` in the place of
`sys.executable`, but for one run of each script, which starts as a person does.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "helpers"))  # what several rooms' tests share
os.environ["OMP_NUM_THREADS"] = "1"  # read where torch is imported first
GPU = Path("/dev/nvidiactl").exists()
EXAMPLES = int(os.environ.get("EXAMPLES", 1))  # times those of each property; see `make test-full`


def pytest_configure(config: pytest.Config) -> None:
    works_for_another = hasattr(config, "workerinput")  # of xdist
    only_hands_out = config.getoption("dist", "no") != "no" and not works_for_another
    if not works_for_another:
        start_warm_python(config)
    if only_hands_out and not GPU:  # those that do the work are forks too
        os.environ["COLD_PYTHON"] = sys.executable
        config.option.tx = [f"{spec}//python={os.environ['WARM_PYTHON']}" for spec in config.option.tx]
    if not only_hands_out:
        import torch

        torch.set_num_threads(1)
        sys.executable = os.environ.get("COLD_PYTHON", sys.executable)
        if GPU:
            os.environ["WARM_PYTHON"] = sys.executable  # a fork cannot use the GPU
        else:
            os.environ["TRITON_INTERPRET"] = "1"  # read where triton is imported first


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files with long tests come first, so that the last to end are short: the processes then end together.
    long = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("ranks")}
    items.sort(key=lambda item: item.path not in long)
    if EXAMPLES == 1:
        return
    from hypothesis import is_hypothesis_test, settings

    for test in {item.function for item in items if is_hypothesis_test(getattr(item, "function", None))}:
        given = test._hypothesis_internal_use_settings  # a profile would not reach tests that give their number
        test._hypothesis_internal_use_settings = settings(given, max_examples=EXAMPLES * given.max_examples)


def start_warm_python(config: pytest.Config) -> None:
    """tests/warm_server.py, which ends with this process, and a copy of tests/warm_client.py that is a command."""
    if not hasattr(os, "pidfd_open"):
        os.environ["WARM_PYTHON"] = sys.executable
        return
    here, folder = Path(__file__).parent, Path(tempfile.mkdtemp(prefix="warm-"))
    client, address = folder / "python", folder / "socket"
    client.write_text(f"#!{sys.executable} -IS\n{(here / 'warm_client.py').read_text(encoding='utf-8')}", encoding="utf-8")
    client.chmod(0o700)
    # Else deepspeed says that it finds no other accelerator, and triton's own functions are for GPUs alone.
    environment = {**os.environ, "DS_ACCELERATOR": "cpu", "TRITON_INTERPRET": "1"}
    server = subprocess.Popen([sys.executable, here / "warm_server.py", address], env=environment, stdin=subprocess.PIPE)
    while not address.exists():
        assert server.poll() is None
        time.sleep(0.01)
    os.environ["WARM_PYTHON"] = str(client)

    def end() -> None:
        server.stdin.close()
        server.wait()
        shutil.rmtree(folder)

    config.add_cleanup(end)
