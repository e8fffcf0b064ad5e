"""A tiny model, a server of it, and processes beside it that start quickly."""

import os
from multiprocessing import spawn

import pytest

from mmpt.inference.load import load

from .asking import limits
from .live import serving
from .tiny import write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def forks():
    """What multiprocessing starts is a fork of a process that has imported the libraries."""
    before = spawn.get_executable()
    spawn.set_executable(os.environ["WARM_PYTHON"])
    yield
    spawn.set_executable(before)


@pytest.fixture(scope="module")
def server(model):
    with serving(model, limits()) as found:
        yield found
