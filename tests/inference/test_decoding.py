"""Pictures and sounds from a process beside this one are those from here, also after it has been killed."""

import os
import signal

import numpy as np
import pytest

from mmpt.inference.decoding import DecodingProcess, decode_with
from mmpt.model.checkpoints import find_checkpoint
from mmpt.tokenizers.image.renderers.own import Own
from mmpt.tokenizers.multimodal import MultimodalTokenizer

from .tiny import write_checkpoint


@pytest.mark.slow
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
        (process,) = beside._pool._processes
        os.kill(process, signal.SIGKILL)
        assert decode("image", asked["image"]).part == here("image", asked["image"]).part
        with pytest.raises(Exception, match="codes|sequence|expected"):  # a mistake stays a mistake
            decode("speech", np.array([-5]))
        assert decode("image", asked["image"]).samples is None
