"""A tiny model, and a server of it."""

import pytest

from mmpt.inference.load import load

from .asking import limits
from .live import serving
from .tiny import write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def server(model):
    with serving(model, limits()) as found:
        yield found
