"""A Whisper checkpoint as recogniser, against transformers' own model, on tiny ones with random weights."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertModel, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.speech.batches import SpeechExample, speech_batches
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.speech.whisper import take_weights, with_architecture
from mmpt.tokenizers.text import train_text_tokenizer
from mmpt.training.fit import FitConfig

DIM, MELS, POSITIONS = 16, 16, 60


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    shape = WhisperConfig(
        vocab_size=280, num_mel_bins=MELS, d_model=DIM, encoder_layers=3, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_source_positions=POSITIONS,
        max_target_positions=40, decoder_start_token_id=270, eos_token_id=271, bos_token_id=271, pad_token_id=271,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(shape)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    folder = tmp_path_factory.mktemp("whisper")
    model.save_pretrained(folder)
    return folder


def config(checkpoint, quantizer: dict | None = None, pool: int = 2, encoder: dict | None = None, **changes) -> SpeechConfig:
    values = {
        "quantizer": quantizer or {"kind": "fsq", "levels": [8, 8]},
        "encoder": {"kind": "whisper", "checkpoint": str(checkpoint), "layer": 2, "overlap": 4, **(encoder or {})},
        "decoder": {"dim": 16, "heads": 2, "layers": 1, "blocks": 1},
        "mels": MELS, "pool": pool, "window": POSITIONS // pool, **changes,
    }  # fmt: skip
    return with_architecture(SpeechConfig(**values))


def build(checkpoint, **changes) -> SpeechTokenizer:
    torch.manual_seed(0)
    settled = config(checkpoint, **changes)
    model = SpeechTokenizer(settled, train_text_tokenizer(["a b"], 270))
    take_weights(model.encoder, model.reader, settled)
    return model.eval()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def test_without_pooling_and_quantiser_it_is_whisper(checkpoint):
    """States of the whole encoder and logits of the text decoder are those of transformers on the same features."""
    model = build(checkpoint, quantizer={"kind": "none", "dim": DIM}, pool=1, encoder={"layer": 3}, window=POSITIONS)
    reference = WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
    mel = torch.randn(2, 2 * POSITIONS, MELS)
    ids = torch.randint(280, (2, 7))
    lengths = torch.full((2,), POSITIONS)
    with torch.inference_mode():
        model.encoder.code_positions.weight.zero_()
        _, context = model.encoder.read(model.encoder.states(mel, lengths), lengths)
        features = ((mel + 1) / 2).transpose(1, 2)
        torch.testing.assert_close(context, reference.model.encoder(features).last_hidden_state, atol=1e-5, rtol=1e-4)
        logits = reference(input_features=features, decoder_input_ids=ids).logits
        torch.testing.assert_close(model.reader(ids, context, lengths), logits, atol=1e-4, rtol=1e-4)


def test_the_cut_is_where_it_is_said_to_be(checkpoint):
    model = build(checkpoint, quantizer={"kind": "none", "dim": DIM}, pool=2)
    reference = WhisperForConditionalGeneration.from_pretrained(checkpoint).eval()
    mel = torch.randn(1, 2 * POSITIONS, MELS)
    with torch.inference_mode():
        hidden = reference.model.encoder(((mel + 1) / 2).transpose(1, 2), output_hidden_states=True).hidden_states
        states = model.encoder.states(mel, torch.tensor([POSITIONS // 2]))
    torch.testing.assert_close(states, hidden[2].unflatten(1, (-1, 2)).mean(dim=2), atol=1e-5, rtol=1e-4)
    peaks = build(checkpoint, quantizer={"kind": "none", "dim": DIM}, pool=2, encoder={"pooling": "max"})
    with torch.inference_mode():
        states = peaks.encoder.states(mel, torch.tensor([POSITIONS // 2]))
    torch.testing.assert_close(states, hidden[2].unflatten(1, (-1, 2)).amax(dim=2), atol=1e-5, rtol=1e-4)


def test_features_are_whispers_but_for_the_floor(checkpoint):
    sound = 0.3 * noise(30 * 16_000)  # loud throughout: neither floor is reached
    theirs = WhisperFeatureExtractor(feature_size=80)(sound, sampling_rate=16_000, return_tensors="pt").input_features[0].t()
    ours = (log_mel(torch.from_numpy(sound), 80, 3000) + 1) / 2
    torch.testing.assert_close(ours[2:-2], theirs[2:-2], atol=1e-3, rtol=0)


def test_the_second_table_begins_as_the_first(checkpoint):
    model = build(checkpoint)
    weights = WhisperForConditionalGeneration.from_pretrained(checkpoint).model.encoder
    assert torch.equal(model.encoder.code_positions.weight, weights.embed_positions.weight[: POSITIONS // 2])
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
    batches = speech_batches(examples, model.config, FitConfig(steps=1, batch_size=4, learning_rate=1e-3))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    model.train()
    losses = []
    for step in range(80):
        terms = model.training_step(batches(step), step / 80).terms
        optimizer.zero_grad()
        sum(term.weight * term.total / term.count.clamp_min(1) for term in terms.values()).backward()
        optimizer.step()
        losses.append(float(terms["reading"].total.detach() / terms["reading"].count))
    assert losses[-1] < losses[0] / 3 and float(terms["ctc"].count) == 0
    model.eval().save(tmp_path / "tokenizer")
    loaded = SpeechTokenizer.load(tmp_path / "tokenizer")
    sounds = [example.samples for example in examples]
    assert all(np.array_equal(one, other) for one, other in zip(model.encode(sounds), loaded.encode(sounds), strict=True))
    assert loaded.recognize(sounds) == model.recognize(sounds)


def test_bfloat16_runs(checkpoint):
    model = build(checkpoint).bfloat16()
    mel = torch.randn(2, 40, MELS)
    states = model.encoder.states(mel, torch.tensor([10, 7]))
    assert states.dtype == torch.bfloat16 and states.isfinite().all()


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
    model = build(checkpoint)
    with pytest.raises(DataError, match="a transcript of 50 tokens, at most 39 are read"):
        model.reader.losses([[1] * 50], torch.zeros(1, 4, DIM), torch.zeros(1, 4, DIM), torch.tensor([4]))
