"""The engine in a process of its own: the same answers, and nothing hangs where it dies."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmpt.errors import CheckpointError
from mmpt.inference.decoding import DecodingProcess
from mmpt.inference.load import load
from mmpt.inference.server.writers import EngineProcess
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.hollow import is_hollow
from mmpt.storage import MANIFEST

from .asking import EVERYTHING, HOT, asked, limits, post
from .live import serving
from .tiny import write_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forks")]
HELD = asked("a", modalities=["text"], max_tokens=20, logprobs=True, response_format={"type": "json_object"})
"""Held to a grammar, and how likely each token was: both are the engine's."""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return find_checkpoint(write_checkpoint(tmp_path_factory.mktemp("tiny")))


def _ids(response) -> list[int]:
    return response.json()["choices"][0]["token_ids"]


def _held(response) -> tuple[str, list]:
    (choice,) = response.json()["choices"]
    likely = [(one["token"], round(one["logprob"], 4)) for one in choice["logprobs"]["content"]]
    return choice["message"]["content"], likely


def test_answers_of_processes_are_those_of_threads_also_after_one_was_killed(run):
    with serving(load(run), limits()) as (address, _):
        wanted = [_ids(post(address, messages=EVERYTHING, seed=seed, **HOT)) for seed in range(4)]
        held = _held(post(address, **HELD))
    with EngineProcess(str(run), device="cpu", max_rows=4) as writer, DecodingProcess(run) as decode:
        front = load(run, "cpu", hollow=True)
        assert is_hollow(front.model)
        with serving(front, limits(), decode=decode, writer=writer) as (address, service), ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda seed: post(address, messages=EVERYTHING, seed=seed, **HOT), range(4)))
            assert list(map(_ids, found)) == wanted
            assert _held(post(address, **HELD)) == held and held[0].startswith("{") and len(held[1]) > 1
            long = {"modalities": ["audio"], "max_tokens": 2000, "temperature": 1.0, "sampling": {"audio": {"temperature": 1.0}}}
            waiting = [pool.submit(post, address, **asked("a", seed=seed, **long)) for seed in range(3)]
            while service.taken < 3:
                time.sleep(0.01)
            time.sleep(0.2)
            os.kill(writer.pid, signal.SIGKILL)
            assert [one.result(30).status_code for one in waiting] == [500] * 3
            assert _ids(post(address, messages=EVERYTHING, seed=1, **HOT)) == wanted[1]
            assert service.taken == 0


def test_a_damaged_checkpoint_is_told_by_the_process_as_by_the_server(tmp_path):
    checkpoint = find_checkpoint(write_checkpoint(tmp_path))
    (checkpoint / MANIFEST).unlink()
    with pytest.raises(CheckpointError) as wanted:
        load(checkpoint)
    with pytest.raises(CheckpointError) as found, EngineProcess(str(checkpoint)):
        pass
    assert str(found.value) == str(wanted.value)
