"""A tokenizer of a fixed Whisper from which nothing is learned by gradients: books of codes, as they begin, in a folder of it."""

import numpy as np
import pytest
import torch

from mmpt.codebooks import by_frame, in_order
from mmpt.config import parse_config
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Speech
from mmpt.errors import ConfigError
from mmpt.media import encode_flac
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.training.distributed import World
from mmpt.training.specs import SpeechSpec
from mmpt.training.tokenizers import train_tokenizer

from .tiny_whisper import TEXT, config, noise, save

BOOKS = {"kind": "residual", "stages": 3, "stage": {"codes": 8, "dim": 8, "decay": 1}}


def spec(folder, encoder: dict | None = None, quantizer: dict | None = None, **changes) -> dict:
    shape = config(
        folder / "checkpoint", quantizer=quantizer or BOOKS, mel_weight=0,
        encoder={"layer": 2, "fixed": True, "silence_read": True, "around": 1, **(encoder or {})}, **changes,
    )  # fmt: skip
    return {
        "kind": "speech", "data": [folder / "shards"], "text_tokenizer": str(folder / "text"), "fit": None,
        "tokenizer": shape.model_dump(mode="json"),
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    save(folder / "checkpoint")
    TEXT.save_pretrained(folder / "text")
    with ShardWriter(folder / "shards", built={}) as writer:
        for number in range(8):
            samples = noise(6000 + 900 * number, number)
            part = Speech(encode_flac(samples, 16_000), "flac", 16_000, len(samples) / 16_000, "a b")
            writer.write(Document(f"noise/{number}", "noise", (part,)))
    return folder


@pytest.mark.parametrize("layout", ["flatten", "delay"])
def test_books_are_begun_and_codes_go_both_ways_in_their_layout(folder, tmp_path, layout):
    given = SpeechSpec.model_validate(spec(folder, layout=layout))
    assert train_tokenizer(given, tmp_path, World(0, 1, torch.device("cpu"))) == 0
    tokenizer = SpeechTokenizer.load(tmp_path / "tokenizer")
    assert (tokenizer.codes, tokenizer.rate, tokenizer.config.vector_rate) == (24, 75.0, 25.0)
    assert tokenizer.figures.in_vocabulary() == {
        "speech_codes": 24, "speech_rate": 75.0, "speech_codebooks": 3, "speech_layout": layout,
    }  # fmt: skip
    sounds = [noise(9000, 20), noise(4000, 21)]
    codes = tokenizer.encode(sounds)
    frames = [by_frame(row, 3, 8, layout) for row in codes]
    assert [len(row) for row in frames] == [15, 7] and all(np.ptp(row[:, 0]) > 0 for row in frames)
    # The codes are those of the books, whatever their order.
    vectors = [tokenizer.vectors(row, 0) for row in codes]
    assert all(np.array_equal(row - np.array([0, 8, 16]), frame) for row, frame in zip(vectors, frames, strict=True))
    with SpeechCoder.load(tmp_path / "tokenizer").streaming() as stream:
        pieces = [stream.push(sounds[0][at : at + 1000]) for at in range(0, 9000, 1000)]
        assert np.array_equal(np.concatenate([*pieces, stream.finish()]), codes[0])
    waves = tokenizer.decode(codes)
    assert [len(wave) for wave in waves] == [15 * 640, 7 * 640]
    with tokenizer.speaking() as stream:
        pieces = [stream.push(codes[0][at : at + 4]) for at in range(0, len(codes[0]), 4)]
        said = np.concatenate([*pieces, stream.finish()])
    assert len(said) == len(waves[0]) and np.abs(said - waves[0]).mean() < 0.01  # Griffin-Lim makes much of a difference of 1e-6
    assert len(tokenizer.transcribe(codes)) == 2
    assert torch.unique(tokenizer.loudness).numel() > 3 and tokenizer.encoder.silence.abs().min() > 0
    assert np.array_equal(in_order(frames[0], 8, layout), codes[0])


def test_pauses_are_as_long_in_seconds_whatever_the_number_of_books(folder, monkeypatch):
    """Pieces of long speech are cut by vectors: six vectors are a pause at 25 Hz of however many books."""
    from mmpt.tokenizers.speech import tokenizer as module

    asked = []
    monkeypatch.setattr(module, "pieces", lambda count, longest, loud, rate: asked.append(rate) or [])
    model = SpeechTokenizer(SpeechSpec.model_validate(spec(folder)).tokenizer, TEXT)
    model.transcribe([np.array([0, 8, 16])])
    model.recognize([noise(2000)])
    assert asked == [25.0, 25.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"encoder": {"fixed": False, "silence_read": False, "around": 0}},
        {"quantizer": {**BOOKS, "stage": {**BOOKS["stage"], "decay": 0.99}}},
    ],
)
def test_nothing_is_learned_only_where_there_is_something_to_begin_from(folder, wrong):
    with pytest.raises(ConfigError, match="fit is null: expected a fixed encoder, and codes that stay as they begin"):
        parse_config(spec(folder, **wrong), SpeechSpec, "spec.yaml")
