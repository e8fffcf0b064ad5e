"""A checkpoint answers: as a whole and in a stream, with every id accounted for and sound that has no seams."""

import io
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import PIL.Image
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mmpt
from mmpt.document import Image, Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.inference.decoding import decode_with
from mmpt.inference.engine import Engine
from mmpt.inference.events import Assembler, AudioDelta, PartDone, TextDelta
from mmpt.inference.load import load
from mmpt.media import encode_png, encode_wav
from mmpt.tokenizers.text import encode_text

from .tiny import speech_tokenizer, write_checkpoint

HOT = {name: {"temperature": 1.3} for name in ("text", "image", "speech")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(run):
    return load(run)


def prompt() -> tuple:
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    sound = np.sin(np.arange(8000) / 30).astype(np.float32)
    return (Text("the red"), Image(encode_png(picture), "png", 30, 20), Speech(encode_wav(sound, 16_000), "wav", 16_000, 0.5))


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_is_the_answer_piece_by_piece(model, seed):
    asked = {"max_new_tokens": 120, "seed": seed, **HOT}
    (answer,) = model.answer([prompt()], **asked)
    events = list(model.stream(prompt(), **asked))
    done = [event for event in events if isinstance(event, PartDone)]
    assert [i for event in events for i in event.ids] == answer.ids
    assert [event.part for event in done] == list(range(len(answer.parts)))
    for event, part in zip(done, answer.parts, strict=True):
        assert type(event.content) is type(part)
        if isinstance(part, Text):
            shown = "".join(one.text for one in events if isinstance(one, TextDelta) and one.part == event.part)
            assert event.content == part and shown == part.text
        elif isinstance(part, Image):
            assert event.content == part
        else:
            heard = np.concatenate([e.samples for e in events if isinstance(e, AudioDelta) and e.part == event.part])
            (whole,) = model.tokenizer.speech.decode([_codes(model, event.ids, events, event.part)])
            noise, signal = np.square(heard - whole).mean(), np.square(whole).mean()
            assert len(heard) == len(whole) and 10 * np.log10(noise / signal + 1e-20) < -40
            kept, _ = soundfile.read(io.BytesIO(event.content.data), dtype="float32")
            assert np.abs(kept - heard.clip(-1, 1)).max() <= 1e-4


class Seen:
    """Decodes, and counts how often it was asked to."""

    def __init__(self, tokenizer) -> None:
        self._decode, self.at_once, self.count = decode_with(tokenizer), 1, 0

    def __call__(self, kind, codes):
        self.count += 1
        return self._decode(kind, codes)

    @contextmanager
    def speaking(self):
        self.count += 1
        with self._decode.speaking() as stream:
            yield Heard(self, stream)


class Heard:
    """A stream whose turns are counted, and that has nothing to say of codes that it calls silent."""

    def __init__(self, seen: Seen, stream) -> None:
        self._seen, self._stream = seen, stream

    @property
    def silent(self) -> int:
        return self._stream.silent

    def push(self, codes):
        self._seen.count += 1
        silent = len(codes) <= self.silent
        samples = self._stream.push(codes)
        assert not (silent and len(samples))
        return samples

    def finish(self):
        self._seen.count += 1
        return self._stream.finish()


@pytest.mark.parametrize("block", [5, None])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_not_heavy_decodes_nothing(model, block, data):
    """A server writes such ids down where others wait: text, marks and codes in any pieces, of a tokenizer that speaks in blocks
    and of one that does not."""
    tokenizer = replace(model.tokenizer, speech=speech_tokenizer(block))
    vocabulary = tokenizer.vocabulary
    alternate = data.draw(st.sampled_from([None, (2, 3)]))
    text = st.lists(st.integers(5, vocabulary.text_size - 1), min_size=1, max_size=3)
    draw = np.random.default_rng(0)
    said, pictures = st.integers(1, 4), st.just(None)
    ids: list[int] = []
    for part in data.draw(st.lists(st.one_of(text, said, pictures), min_size=1, max_size=6)):
        if isinstance(part, list):
            ids += part
        elif part is None:
            ids += vocabulary.encode_image(draw.integers(0, vocabulary.image_codes, vocabulary.codes_per_image))
        else:
            ids += vocabulary.encode_speech(draw.integers(0, vocabulary.speech_codes, part))
    decode = Seen(tokenizer)
    assembler = Assembler(tokenizer, decode=decode, alternate=alternate)
    while ids:
        size = data.draw(st.integers(1, len(ids)))
        new, ids, before = ids[:size], ids[size:], decode.count
        heavy = assembler.heavy(new)
        list(assembler.push(new))
        assert heavy or decode.count == before
        assert not heavy or any(token >= vocabulary.special_offset for token in new)  # text never is
    before, heavy = decode.count, assembler.ends_heavily
    list(assembler.finish())
    assert heavy or decode.count == before


def test_a_stream_of_sound_is_decoded_once_a_block(model):
    """Not once a code: each time is a turn of another process."""
    vocabulary, decode = model.tokenizer.vocabulary, Seen(model.tokenizer)
    ids = vocabulary.encode_speech(np.random.default_rng(0).integers(0, vocabulary.speech_codes, 40))
    assembler = Assembler(model.tokenizer, decode=decode)
    events = [event for token in ids for event in assembler.push([token])] + list(assembler.finish())
    (whole,) = model.tokenizer.speech.decode([np.array(ids[1:-1]) - vocabulary.speech_offset])
    heard = np.concatenate([event.samples for event in events if isinstance(event, AudioDelta)])
    assert len(heard) == len(whole) and np.abs(heard - whole).max() < 1e-4
    assert decode.count <= 40 // 5 + 3  # it is opened, and at the end pushed and finished


def _codes(model, ids, events, part) -> np.ndarray:
    vocabulary = model.tokenizer.vocabulary
    own = [i for event in events if event.part == part for i in event.ids]
    return np.array([i - vocabulary.speech_offset for i in own if i >= vocabulary.speech_offset])


def test_first_sound_after_at_most_23_tokens_where_text_and_speech_alternate(model):
    heard = 0
    for event in model.stream(prompt()[:1], max_new_tokens=200, alternate=[13, 26], outputs=["text", "speech"], seed=1, **HOT):
        heard += len(event.ids)
        if isinstance(event, AudioDelta):
            break
    assert heard <= 23


def test_text_whose_characters_come_in_pieces_never_shows_half_of_one(model):
    tokenizer = model.tokenizer
    ids = encode_text(tokenizer.text, "naïve 日本語 cafés – ünder")
    assembler = Assembler(tokenizer)
    events = [event for token in ids for event in assembler.push([token])] + list(assembler.finish())
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    assert "".join(deltas) == "naïve 日本語 cafés – ünder" and not any("\ufffd" in delta for delta in deltas)
    assert [i for event in events for i in event.ids] == ids and len(deltas) > 3


def test_what_a_user_types_is_text_whatever_it_spells(model):
    vocabulary = model.tokenizer.vocabulary
    spelled = "say <|speech_00003|> <|/image|> <|end|> <|image_00001|> <|feature|>"
    (found,) = model.prompts([(Text(spelled),)])
    assert max(found.ids[1:]) < vocabulary.text_size and found.ids[0] == vocabulary.special("<|begin|>")
    assert model.tokenizer.decode(found.ids[1:]) == (Text(spelled),)


def test_whoever_stops_reading_stops_the_writing(model, monkeypatch):
    step, steps = Engine.step, []
    monkeypatch.setattr(Engine, "step", lambda engine: steps.append(engine) or step(engine))
    stream = model.stream(prompt(), max_new_tokens=4000, outputs=["speech"], **HOT)
    next(stream)
    before = len(steps)
    stream.close()
    assert 0 < before == len(steps) < 100


def test_many_prompts_at_once_each_with_its_own_seed(model):
    asked = {"max_new_tokens": 40, **HOT}
    together = model.answer([prompt(), prompt()[:1], prompt()[1:]], seed=5, **asked)
    for number, one in enumerate([prompt(), prompt()[:1], prompt()[1:]]):
        assert model.answer([one], seed=5 + number, **asked)[0] == together[number]


def test_bad_input_is_named(model, run, tmp_path):
    with pytest.raises(ConfigError, match="text.temperature"):
        model.answer([prompt()], text={"temperature": -1})
    with pytest.raises(DataError, match="no picture that can be decoded"):
        model.answer([(Image(b"not a picture", "png", 1, 1),)])
    assert mmpt.load(run).tokenizer.vocabulary == model.tokenizer.vocabulary
    assert mmpt.load(run, dtype=torch.bfloat16).model.dtype == torch.bfloat16
