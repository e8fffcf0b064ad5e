"""Pictures and sounds from a process beside this one are those from here, also after it has been killed."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmpt.errors import DataError
from mmpt.inference.decoding import DecodingProcess, decode_with
from mmpt.model.checkpoints import find_checkpoint
from mmpt.tokenizers.image.renderers.own import Own
from mmpt.tokenizers.multimodal import MultimodalTokenizer

from .tiny import write_checkpoint


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_a_process_of_its_own_gives_the_same_and_is_replaced(tmp_path):
    checkpoint = find_checkpoint(write_checkpoint(tmp_path))
    tokenizer = MultimodalTokenizer.of_checkpoint(checkpoint)
    here, asked = decode_with(tokenizer), {"image": np.arange(5), "speech": np.arange(12) % tokenizer.speech.codes}
    beside = DecodingProcess(checkpoint, Own())
    with beside as decode:
        for kind, codes in asked.items():
            wanted, found = here(kind, codes), decode(kind, codes)
            assert found.part == wanted.part
            assert (found.samples is None) == (kind == "image")
            assert kind == "image" or np.array_equal(found.samples, wanted.samples)
        os.kill(beside.pid, signal.SIGKILL)
        assert decode("image", asked["image"]).part == here("image", asked["image"]).part
        with pytest.raises(Exception, match="codes|sequence|expected"):  # a mistake stays a mistake
            decode("speech", np.array([-5]))
        assert decode("image", asked["image"]).samples is None


def test_sounds_decoded_in_one_batch_are_those_of_each_alone(tmp_path):
    tokenizer = MultimodalTokenizer.of_checkpoint(find_checkpoint(write_checkpoint(tmp_path)))
    decode, draw = decode_with(tokenizer), np.random.default_rng(0)
    asked = [draw.integers(0, tokenizer.speech.codes, length) for length in (3, 17, 64, 1, 40)]  # of one window and of more
    for codes, found in zip(asked, decode.sounds(asked), strict=True):
        alone = decode("speech", codes).samples
        assert found.samples.shape == alone.shape and np.abs(found.samples - alone).max() <= 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("forks")
def test_many_ask_a_process_at_once_and_a_mistake_is_told_to_its_own_alone(tmp_path):
    checkpoint = find_checkpoint(write_checkpoint(tmp_path))
    tokenizer = MultimodalTokenizer.of_checkpoint(checkpoint)
    here, draw = decode_with(tokenizer), np.random.default_rng(1)
    asked = [draw.integers(0, tokenizer.speech.codes, length) for length in (5, 30, 12, 8, 21, 3)]
    asked[3] = np.array([-5])

    def spoken(codes):
        try:
            return decode("speech", codes).samples
        except DataError as problem:
            return str(problem)

    def streamed(codes):
        with decode.speaking() as stream:
            pieces = [stream.push(codes[place : place + 4]) for place in range(0, len(codes), 4)]
            return np.concatenate([*pieces, stream.finish()])

    with DecodingProcess(checkpoint) as decode, ThreadPoolExecutor(12) as pool:
        whole = [pool.submit(spoken, codes) for codes in asked]
        streams = [pool.submit(streamed, codes) for number, codes in enumerate(asked) if number != 3]
        assert "expected 0" in whole[3].result(60)
        good = [number for number in range(6) if number != 3]
        for number, stream in zip(good, streams, strict=True):
            alone = here("speech", asked[number]).samples
            for found in (whole[number].result(60), stream.result(60)):
                assert found.shape == alone.shape and np.abs(found - alone).max() <= 1e-4
        with decode.speaking() as stream:
            stream.push(asked[1])
            os.kill(decode.pid, signal.SIGKILL)
            time.sleep(1)  # what a fork was started by is dead at once, it itself a moment later
            with pytest.raises(DataError, match="has died"):
                stream.finish()


@pytest.mark.slow
def test_what_is_short_does_not_wait_for_what_is_long_and_the_end_for_neither(tmp_path):
    checkpoint = find_checkpoint(write_checkpoint(tmp_path))
    codes = np.arange(80_000) % 5
    with ThreadPoolExecutor(4) as pool:
        with DecodingProcess(checkpoint) as decode:
            long = pool.submit(decode, "speech", codes)
            time.sleep(0.3)
            short = pool.submit(decode, "speech", codes[:10])
            assert decode("image", np.arange(5)).samples is None and len(short.result(20).samples) > 0
            with decode.speaking() as stream:
                assert len(stream.push(codes[:20])) + len(stream.finish()) > 0
            assert not long.done()
            begun = time.monotonic()
        with pytest.raises(DataError, match="server stops"):
            long.result(1)
        with pytest.raises(DataError, match="server stops"):
            decode("speech", codes[:10])
        assert time.monotonic() - begun < 10
