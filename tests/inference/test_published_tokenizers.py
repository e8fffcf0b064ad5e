"""A published codec's codes the whole way: shards, token shards, a pack, a model's answer, and sound as it is written."""

import numpy as np
import pytest
from tiny_glm_decoder import import_glm
from tiny_published import mimi

from mmpt.codebooks import by_frame
from mmpt.data.curate.job import curate
from mmpt.data.curate.steps.to_tokens import ToTokens
from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Speech, Text
from mmpt.errors import DataError
from mmpt.inference.events import AudioDelta
from mmpt.inference.load import load
from mmpt.inference.samplers.top_p import TopP
from mmpt.media import decode_speech, encode_wav
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.loading import FORMAT
from mmpt.storage import link_tree, published_folder
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.published.mimi import Mimi
from mmpt.tokenizers.published_folder import import_tokenizer
from mmpt.tokenizers.text import train_text_tokenizer

from .tiny import BACKBONE, WORDS

DRAWN = TopP(temperature=1.0)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of a text tokenizer and of two delayed codebooks of a small Mimi."""
    folder = tmp_path_factory.mktemp("parts")
    train_text_tokenizer(WORDS, 300).save_pretrained(folder / "text_tokenizer")
    mimi(folder / "mimi")
    import_tokenizer(Mimi(model=str(folder / "mimi"), codebooks=2, layout="delay"), folder / "speech_tokenizer")
    return folder


@pytest.fixture(scope="module")
def model(parts, tmp_path_factory):
    return untrained(parts, tmp_path_factory.mktemp("run"))


def untrained(parts, folder):
    vocabulary = MultimodalTokenizer.load(parts / "text_tokenizer", parts / "speech_tokenizer", None).vocabulary
    backbone = build_backbone(BackboneConfig(config=BACKBONE), vocabulary.size, seed=1)
    checkpoint = folder / "checkpoints" / "step-00000001"
    with published_folder(checkpoint, {"format": FORMAT, "step": 1}) as temporary:
        backbone.save_pretrained(temporary / "backbone")
        vocabulary.save(temporary)
        for name in ("text_tokenizer", "speech_tokenizer"):
            link_tree(parts / name, temporary / name)
    return load(checkpoint)


def spoken(seed: int, seconds: float = 2.0) -> Speech:
    samples = np.random.default_rng(seed).normal(0, 0.2, int(16_000 * seconds)).astype(np.float32)
    return Speech(encode_wav(samples, 16_000), "wav", 16_000, seconds, "a red circle")


def test_shards_become_packs_of_its_codes(parts, tmp_path):
    said = [spoken(seed) for seed in range(3)]
    with ShardWriter(tmp_path / "shards", built={}) as writer:
        for number, part in enumerate(said):
            writer.write(Document(f"d{number}", "s", (Text("a red circle"), part)))
    step = ToTokens(text=str(parts / "text_tokenizer"), speech=parts / "speech_tokenizer")
    curate(step, [tmp_path / "shards"], tmp_path / "tokens")
    shards = TokenShards(tmp_path / "tokens")
    vocabulary = shards.vocabulary
    assert (vocabulary.speech_codes, vocabulary.speech_rate) == (32, 25.0)
    assert (vocabulary.speech_codebooks, vocabulary.speech_layout) == (2, "delay")
    (batch,) = next(iter(Loader([shards], pack_tokens=256, packs_per_step=1, seed=0)))
    blocks = vocabulary.split(batch.input_ids.reshape(-1).tolist())
    found = sorted(codes.tolist() for kind, codes in blocks if kind == "speech")
    tokenizer = MultimodalTokenizer.load(parts / "text_tokenizer", parts / "speech_tokenizer", None).speech
    expected = tokenizer.encode([decode_speech(part.data, 800) for part in said])
    assert found == sorted(codes.tolist() for codes in expected) and all(len(codes) == 50 for codes in expected)


def test_what_a_model_writes_is_sound_whole_and_as_it_comes(model):
    settings = {"alternate": (2, 16), "max_new_tokens": 21, "speech": DRAWN, "text": DRAWN}
    prompt = [Text("say"), spoken(1, 0.5)]
    (answer,) = model.answer([prompt], **settings)
    part = next(one for one in answer.parts if isinstance(one, Speech))
    codes = next(codes for kind, codes in model.tokenizer.vocabulary.split(answer.ids) if kind == "speech")
    assert len(by_frame(codes, 2, 16, "delay")) == 8 and part.sample_rate == 800
    assert part.duration == pytest.approx(8 * 64 / 800)
    pieces = [event.samples for event in model.stream(prompt, **settings) if isinstance(event, AudioDelta)]
    (whole,) = model.tokenizer.speech.decode([codes])
    assert len(pieces) > 1  # the first before the last code is there
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-5 * max(1.0, np.abs(whole).max()))


def test_text_and_speech_in_turn_keep_frames_whole(model):
    settings = {"max_new_tokens": 60, "alternate": (3, 4), "speech": DRAWN, "text": DRAWN}
    (answer,) = model.answer([[Text("say")]], **settings)
    blocks = model.tokenizer.vocabulary.split(answer.ids)
    sounds = [codes for kind, codes in blocks if kind == "speech"]
    assert len(sounds) > 1 and all(len(by_frame(codes, 2, 16, "delay")) == 2 for codes in sounds[:-1])
    with pytest.raises(DataError, match="5 codes of speech in turn, expected a multiple of the 2 codebooks"):
        model.answer([[Text("say")]], max_new_tokens=60, alternate=(3, 5))


def test_codes_of_glm_are_spoken_by_its_decoder_whole_and_as_they_come(tmp_path):
    train_text_tokenizer(WORDS, 300).save_pretrained(tmp_path / "text_tokenizer")
    import_glm(tmp_path / "glm", tmp_path / "speech_tokenizer")
    model = untrained(tmp_path, tmp_path / "run")
    settings = {"alternate": (2, 40), "max_new_tokens": 45, "speech": DRAWN, "text": DRAWN}
    (answer,) = model.answer([[Text("say")]], **settings)
    part = next(one for one in answer.parts if isinstance(one, Speech))
    assert part.sample_rate == 22_050 and part.duration == pytest.approx(40 / 12.5, abs=256 / 22_050)
    pieces = [event.samples for event in model.stream([Text("say")], **settings) if isinstance(event, AudioDelta)]
    codes = next(codes for kind, codes in model.tokenizer.vocabulary.split(answer.ids) if kind == "speech")
    assert len(pieces) > 1 and np.array_equal(np.concatenate(pieces), model.tokenizer.speech.decode([codes])[0])
