"""A Whisper checkpoint as recogniser, against transformers' own model, on tiny ones with random weights."""

import numpy as np
import pytest
import torch
from examples_in_memory import speech_batches
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BertConfig,
    BertModel,
    WhisperConfig,
    WhisperForAudioClassification,
    WhisperForConditionalGeneration,
)

from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.speech.batches import SpeechExample
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.encoders import _whisper_reader
from mmpt.tokenizers.speech.encoders._whisper import whisper_model
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.text import train_text_tokenizer
from mmpt.training.config import FitConfig

from .tiny_whisper import DIM, MELS, POSITIONS, TEXT, build, config, noise, save

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("whisper"))


def whispers_features(mel: torch.Tensor) -> torch.Tensor:
    """[B, mels, T] of our log-mels [B, T, mels]: OpenAI's (max(log10 p, largest − 8) + 4) ÷ 4, where log10 p = 2 mel − 2."""
    power = 2 * mel - 2
    return ((power.maximum(power.amax(dim=(1, 2), keepdim=True) - 8) + 4) / 4).transpose(1, 2)


@pytest.mark.parametrize("changes", [{}, {"scale_embedding": True}, {"tie_word_embeddings": False}])
def test_without_pooling_and_quantiser_it_is_whisper(tmp_path, changes):
    """States of the whole encoder and logits of the text decoder are those of transformers on the same features."""
    model = build(save(tmp_path, **changes), quantizer={"kind": "none", "dim": DIM}, pool=1, encoder={"layer": 3})
    reference = WhisperForConditionalGeneration.from_pretrained(tmp_path).eval()
    mel = torch.randn(2, 2 * POSITIONS, MELS)
    ids = torch.randint(280, (2, 7))
    lengths = torch.full((2,), POSITIONS)
    with torch.inference_mode():
        model.encoder.code_positions.weight.zero_()
        _, context, _ = model.encoder.read(model.encoder.states(mel, lengths), lengths)
        features = whispers_features(mel)
        torch.testing.assert_close(context, reference.model.encoder(features).last_hidden_state, atol=1e-5, rtol=1e-4)
        logits = reference(input_features=features, decoder_input_ids=ids).logits
        torch.testing.assert_close(model.reader(ids, context, lengths), logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prompt", [(), (270, 272, "a")])
def test_reading_takes_the_most_probable_token_of_whisper_at_each_step(checkpoint, prompt, monkeypatch):
    """In a batch, with a cache, against transformers' own model on one utterance at a time, without padding and cache."""
    monkeypatch.setattr(_whisper_reader, "circle", lambda tokens: 0)  # random weights say little else
    model = build(checkpoint, encoder={"prompt": prompt})
    reference = WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
    with torch.inference_mode():
        for table in (model.reader.decoder.embed_tokens.weight, reference.model.decoder.embed_tokens.weight):
            table[271] *= 3  # so that some of them end early
        lengths = torch.tensor([3, 9, 1, 12, 30, 7])
        states = 3 * torch.randn(len(lengths), 30, DIM, generator=torch.Generator().manual_seed(1))
        texts = model.reader.read(states, states, lengths)
        opening = list(model.config.encoder.prompt)
        for text, row, length in zip(texts, states, lengths.tolist(), strict=True):
            ids, limit = list(opening), min(2 * length + 4, 40 - len(opening))
            while len(ids) - len(opening) < limit:
                heard = (row[None, :length],)
                logits = reference(encoder_outputs=heard, decoder_input_ids=torch.tensor([ids]), use_cache=False).logits
                following = int(logits[0, -1].argmax())
                if following == 271:
                    break
                ids.append(following)
            assert text == ids[len(opening) :]
    assert opening == ([270, 272, TEXT.get_vocab()["a"]] if prompt else [270])
    assert len({len(text) for text in texts}) > 3


def test_the_prompt_and_the_padding_are_not_learned(checkpoint):
    """The loss is that of transformers with both masked in the labels."""
    model = build(checkpoint, encoder={"prompt": (270, 272)})
    reference = WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
    states, lengths = torch.randn(2, 6, DIM), torch.tensor([6, 6])
    with torch.inference_mode():
        reading, _ = model.reader.losses([[5, 6, 7], [9]], states, states, lengths)
        ids = torch.tensor([[270, 272, 5, 6, 7], [270, 272, 9, 271, 271]])
        labels = torch.tensor([[-100, 5, 6, 7, 271], [-100, 9, 271, -100, -100]])
        theirs = reference(encoder_outputs=(states,), decoder_input_ids=ids, labels=labels).loss
    torch.testing.assert_close(reading.total / reading.count, theirs)
    assert float(reading.count) == 6


def test_the_cut_is_where_it_is_said_to_be(checkpoint):
    model = build(checkpoint, quantizer={"kind": "none", "dim": DIM}, pool=2)
    reference = WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
    mel = torch.randn(1, 2 * POSITIONS, MELS)
    with torch.inference_mode():
        hidden = reference.model.encoder(whispers_features(mel), output_hidden_states=True).hidden_states
        states = model.encoder.states(mel, torch.tensor([POSITIONS // 2]))
    torch.testing.assert_close(states, hidden[2].unflatten(1, (-1, 2)).mean(dim=2), atol=1e-5, rtol=1e-4)
    peaks = build(checkpoint, quantizer={"kind": "none", "dim": DIM}, pool=2, encoder={"pooling": "max"})
    with torch.inference_mode():
        states = peaks.encoder.states(mel, torch.tensor([POSITIONS // 2]))
    torch.testing.assert_close(states, hidden[2].unflatten(1, (-1, 2)).amax(dim=2), atol=1e-5, rtol=1e-4)


def test_the_second_table_begins_at_zero(checkpoint):
    model = build(checkpoint)
    weights = WhisperForConditionalGeneration.from_pretrained(checkpoint).model.encoder
    assert model.encoder.code_positions.weight.abs().max() == 0
    assert all(
        torch.equal(one, other) for one, other in zip(model.encoder.whisper.parameters(), weights.parameters(), strict=True)
    )


@settings(deadline=None, max_examples=20)
@given(block=st.sampled_from([1, 2, 5]), cut=st.integers(1, 28), seed=st.integers(0, 9))
def test_a_later_block_changes_no_code(checkpoint, block, cut, seed):
    model = build(checkpoint, encoder={"block": block, "overlap": 0})
    mel = torch.randn(1, 2 * POSITIONS, MELS, generator=torch.Generator().manual_seed(seed))
    changed = mel.clone()
    end = cut // block * block  # codes before it are of blocks that are over
    changed[:, end * 4 :] += 2.0
    with torch.inference_mode():
        one, other = (model.encoder.states(m, torch.tensor([30])) for m in (mel, changed))
    assert torch.allclose(one[:, :end], other[:, :end], atol=1e-6)
    assert (one[:, end:] - other[:, end:]).abs().max() > 1e-3


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, 60_000), min_size=1, max_size=5), block=st.sampled_from([None, 2]))
def test_codes_do_not_depend_on_the_neighbours(checkpoint, lengths, block):
    model = build(checkpoint, encoder={"block": block})
    sounds = [noise(length, seed) for seed, length in enumerate(lengths)]
    for sound, codes in zip(sounds, model.encode(sounds), strict=True):
        assert len(codes) == -(-len(sound) // 640) and np.array_equal(model.encode([sound])[0], codes)
    texts = model.transcribe(model.encode(sounds))
    assert texts == [model.transcribe(model.encode([sound]))[0] for sound in sounds]


@settings(deadline=None, max_examples=20)
@given(samples=st.integers(1, 90_000), block=st.sampled_from([None, 2]), data=st.data())
def test_a_stream_gives_the_codes_of_the_whole_audio(checkpoint, samples, block, data):
    model = build(checkpoint, encoder={"block": block})
    sound, given, at = noise(samples), [], 0
    with model.streaming() as stream:
        while at < samples:
            step = data.draw(st.integers(500, 20_000))
            given.append(stream.push(sound[at : at + step]))
            at += step
        given.append(stream.finish())
    assert np.array_equal(np.concatenate(given), model.encode([sound])[0])


def test_it_learns_and_is_saved_whole(checkpoint, tmp_path):
    model = build(checkpoint, quantizer={"kind": "ema", "codes": 16, "dim": DIM})
    examples = [SpeechExample(noise(6000 + 900 * n, n), text) for n, text in enumerate(("a", "b a", "a b", "b"))]
    batches = speech_batches(examples, model.config, FitConfig(steps=1, batch_size=4, optimizer={"learning_rate": 1e-3}))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    model.train()
    losses = []
    for step in range(80):
        terms = model.loss(batches(step), step / 80)
        optimizer.zero_grad()
        sum(term.weight * term.total / term.count.clamp_min(1) for term in terms.values() if term.weight).backward()
        optimizer.step()
        losses.append(float(terms["reading"].total.detach() / terms["reading"].count))
    assert losses[-1] < losses[0] / 3 and float(terms["ctc"].count) == 0
    model.eval().save(tmp_path / "tokenizer")
    loaded = SpeechTokenizer.load(tmp_path / "tokenizer")
    sounds = [example.samples for example in examples]
    assert all(np.array_equal(one, other) for one, other in zip(model.encode(sounds), loaded.encode(sounds), strict=True))
    assert loaded.recognize(sounds) == model.recognize(sounds)


@pytest.mark.parametrize("quantizer", [{"kind": "ema", "codes": 16, "dim": DIM}, {"kind": "fsq", "levels": [8, 8]}])
def test_what_makes_codes_is_loaded_alone(checkpoint, tmp_path, quantizer):
    model = build(checkpoint, quantizer=quantizer)
    if quantizer["kind"] == "ema":
        model.encoder.quantizer.codebook.normal_()
    model.save(tmp_path / "tokenizer")
    coder = SpeechCoder.load(tmp_path / "tokenizer")
    sounds = [noise(length, length) for length in (100, 9000, 50_000)]
    assert all(np.array_equal(one, other) for one, other in zip(coder.encode(sounds), model.encode(sounds), strict=True))
    assert (coder.codes, coder.rate, coder.training, len(coder.encoder.whisper.layers)) == (model.codes, 25.0, False, 2)
    assert not [name for name in coder.state_dict() if "decoder" in name or "layers.2" in name or not name.startswith("encoder.")]


def test_bfloat16_runs(checkpoint):
    model = build(checkpoint, quantizer={"kind": "ema", "codes": 16, "dim": DIM}).bfloat16()
    model.encoder.quantizer.codebook.normal_()
    mel = torch.randn(2, 40, MELS)
    states = model.encoder.states(mel, torch.tensor([10, 7]))
    assert states.dtype == torch.bfloat16 and states.isfinite().all()
    codes = model.encode([noise(9000)])
    assert len(codes[0]) == 15 and isinstance(model.transcribe(codes)[0], str)


class Dtypes(TorchDispatchMode):
    """Which dtypes the expensive operations work in."""

    def __init__(self):
        super().__init__()
        self.found = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in ("addmm", "mm", "bmm", "convolution") or "attention" in name:
            self.found.setdefault(name, set()).add(args[1].dtype)
        return function(*args, **(kwargs or {}))


def test_what_whisper_large_v3_gives_the_quantiser_is_made_in_bfloat16_without_waiting_for_the_device():
    """At its full size with tensors without values, of which a value that Python asks for is an error."""
    shape = WhisperConfig(
        num_mel_bins=128, d_model=1280, encoder_layers=32, encoder_attention_heads=20, encoder_ffn_dim=5120,
        decoder_layers=32, decoder_attention_heads=20, decoder_ffn_dim=5120, vocab_size=51_866,
    )  # fmt: skip
    encoder = {"kind": "whisper", "checkpoint": "", "layer": 16, "block": 50, "overlap": 50, "architecture": shape.to_dict()}
    values = SpeechConfig(quantizer={"kind": "ema", "codes": 16_384, "dim": 1280}, encoder=encoder, mels=128, window=350)
    with torch.device("meta"), torch.inference_mode(), Dtypes() as dtypes:
        encoder = values.encoder.build(values).bfloat16().eval()
        parameters = sum(parameter.numel() for parameter in encoder.parameters())
        assert parameters < 0.22 * sum(parameter.numel() for parameter in whisper_model(values.encoder).parameters())
        lengths = torch.empty(32, dtype=torch.int64)
        encoder.states(torch.empty(32, 2800, 128), lengths)
        assert set.union(*dtypes.found.values()) == {torch.bfloat16} and any("attention" in name for name in dtypes.found)


def test_what_does_not_fit_the_checkpoint_is_all_said(checkpoint, tmp_path):
    with pytest.raises(ConfigError) as problem:
        config(checkpoint, encoder={"layer": 9, "overlap": 20}, mels=32, window=90)
    for said in ("encoder.layer is 9, the checkpoint has 3", "mels is 32, the checkpoint takes 16", "at most 30 fit"):
        assert said in str(problem.value)
    with pytest.raises(ConfigError, match="leaves nothing of the window"):
        config(checkpoint, encoder={"overlap": 15})
    with pytest.raises(ConfigError, match="no model can be loaded"):
        config(tmp_path / "none")
    BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)).save_pretrained(
        tmp_path / "bert"
    )
    with pytest.raises(ConfigError, match="is a bert model, expected whisper"):
        config(tmp_path / "bert")
    with pytest.raises(ConfigError) as problem:
        config(checkpoint, encoder={"prompt": ("<|nowhere|>", 270, 280)})
    assert "'<|nowhere|>' is no token" in str(problem.value) and "280 is no token" in str(problem.value)
    model = build(checkpoint)
    with pytest.raises(DataError, match="a transcript of 50 tokens, at most 39 are read"):
        model.reader.losses([[1] * 50], torch.zeros(1, 4, DIM), torch.zeros(1, 4, DIM), torch.tensor([4]))


def test_a_text_tokenizer_of_another_model_is_refused(checkpoint):
    shape = {"kind": "whisper", "checkpoint": str(checkpoint), "layer": 2, "overlap": 4}
    values = SpeechConfig(quantizer={"kind": "fsq", "levels": [8, 8]}, encoder=shape, mels=MELS, pool=2, window=30)
    foreign = train_text_tokenizer(["a b c d a b c d " * 9], 270)
    foreign.add_tokens([f"<{number}>" for number in range(30)])
    foreign.eos_token = "<3>"
    with pytest.raises(ConfigError) as problem:
        values.encoder.settled(values, foreign)
    for said in (f"has {len(foreign)} ids, the checkpoint knows 280", f"with id {foreign.eos_token_id}, the checkpoint with 271"):
        assert said in str(problem.value)


def test_a_checkpoint_without_its_weights_is_refused(checkpoint, tmp_path):
    """Neither one of an encoder alone, whose decoder transformers would make up, nor one whose file is gone or damaged."""
    save(tmp_path / "classifier", WhisperForAudioClassification)
    with pytest.raises(ConfigError, match=r"lacks \d+ weights of a Whisper for transcription"):
        build(tmp_path / "classifier")
    save(tmp_path / "gone")
    file = tmp_path / "gone" / "model.safetensors"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], None):
        file.write_bytes(content) if content else file.unlink()
        with pytest.raises(ConfigError, match="its weights cannot be loaded"):
            build(tmp_path / "gone")
