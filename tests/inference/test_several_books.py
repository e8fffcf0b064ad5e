"""Several books of codes behind each other, of a tokenizer of our own, in both layouts: packs, a model's answer, its sound."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmpt.codebooks import by_frame, in_order
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.to_tokens import ToTokens
from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Speech, Text
from mmpt.inference.events import AudioDelta
from mmpt.media import decode_speech
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.text import train_text_tokenizer

from .test_published_tokenizers import DRAWN, spoken, untrained
from .tiny import WORDS

sys.path.insert(0, str(Path(__file__).parents[1] / "tokenizers"))
import tiny_whisper  # noqa: E402

BOOKS, SIZE = 4, 8


@pytest.fixture(scope="module", params=["flatten", "delay"])
def parts(request, tmp_path_factory):
    """Folders of a text tokenizer and of four books of a small Whisper, as they begin."""
    folder = tmp_path_factory.mktemp(f"books-{request.param}")
    train_text_tokenizer(WORDS, 300).save_pretrained(folder / "text_tokenizer")
    model = tiny_whisper.build(
        tiny_whisper.save(folder / "whisper"),
        quantizer={"kind": "residual", "stages": BOOKS, "stage": {"codes": SIZE, "dim": 8, "decay": 1}},
        encoder={"fixed": True, "around": 1},
        layout=request.param,
    )
    mels = torch.randn(6, 40, tiny_whisper.MELS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.encoder.begin([model.encoder.hear(mel[None], torch.tensor([10]))[0] for mel in mels])
    model.save(folder / "speech_tokenizer")
    return folder, request.param


def test_shards_become_packs_of_whole_frames_in_their_layout(parts, tmp_path):
    folder, layout = parts
    said = [spoken(seed) for seed in range(3)]
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        for number, part in enumerate(said):
            writer.write(Document(f"d{number}", "s", (Text("a red circle"), part)))
    curate(
        ToTokens(text=str(folder / "text_tokenizer"), speech=folder / "speech_tokenizer"),
        [tmp_path / "shards"],
        tmp_path / "tokens",
    )
    shards = TokenShards(tmp_path / "tokens")
    vocabulary = shards.vocabulary
    assert (vocabulary.speech_codes, vocabulary.speech_rate) == (BOOKS * SIZE, 25.0 * BOOKS)
    assert (vocabulary.speech_codebooks, vocabulary.speech_layout) == (BOOKS, layout)
    (batch,) = next(iter(Loader([shards], pack_tokens=768, packs_per_step=1, seed=0)))
    found = sorted(codes.tolist() for kind, codes in vocabulary.split(batch.input_ids.reshape(-1).tolist()) if kind == "speech")
    tokenizer = MultimodalTokenizer.load(folder / "text_tokenizer", folder / "speech_tokenizer", None).speech
    expected = [codes.tolist() for codes in tokenizer.encode([decode_speech(part.data, 16_000) for part in said])]
    assert found == sorted(expected) and all(len(codes) == 50 * BOOKS for codes in expected)
    assert all(len(by_frame(np.array(codes), BOOKS, SIZE, layout)) == 50 for codes in expected)


def test_a_model_writes_whole_frames_and_they_are_sound_as_they_come(parts, tmp_path):
    folder, layout = parts
    model = untrained(folder, tmp_path)
    settings = {"alternate": (2, 12 * BOOKS), "max_new_tokens": 12 * BOOKS + 5, "speech": DRAWN, "text": DRAWN}
    prompt = [Text("say"), spoken(1, 0.5)]
    (answer,) = model.answer([prompt], **settings)
    part = next(one for one in answer.parts if isinstance(one, Speech))
    codes = next(codes for kind, codes in model.tokenizer.vocabulary.split(answer.ids) if kind == "speech")
    assert len(by_frame(codes, BOOKS, SIZE, layout)) == 12 and part.duration == pytest.approx(12 / 25)
    pieces = [event.samples for event in model.stream(prompt, **settings) if isinstance(event, AudioDelta)]
    (whole,) = model.tokenizer.speech.decode([codes])
    assert sum(map(len, pieces)) == len(whole) == 12 * 640


def test_blocks_in_turn_are_one_sound_whatever_the_layout(parts, tmp_path):
    """In `delay` each block is a sequence of its own; their frames together are what is decoded."""
    folder, layout = parts
    model = untrained(folder, tmp_path)
    settings = {"alternate": (2, 8 * BOOKS), "max_new_tokens": 20 * BOOKS + 20, "speech": DRAWN, "text": DRAWN}
    prompt = [Text("say"), spoken(1, 0.5)]
    (answer,) = model.answer([prompt], **settings)
    blocks = [codes for kind, codes in model.tokenizer.vocabulary.split(answer.ids) if kind == "speech"]
    frames = np.concatenate([by_frame(codes, BOOKS, SIZE, layout) for codes in blocks])
    (whole,) = model.tokenizer.speech.decode([in_order(frames, SIZE, layout)])
    assert len(blocks) > 1 and [type(part) for part in answer.parts] == [Text, Speech]
    assert answer.parts[1].duration == pytest.approx(len(frames) / 25)
    pieces = [event.samples for event in model.stream(prompt, **settings) if isinstance(event, AudioDelta)]
    heard = np.concatenate(pieces)
    assert len(heard) == len(whole) and np.square(heard - whole).mean() < 1e-4 * np.square(whole).mean()
    stored = decode_speech(answer.parts[1].data, 16_000)
    assert np.square(stored - whole.clip(-1, 1)).mean() < 1e-4 * np.square(whole).mean()
