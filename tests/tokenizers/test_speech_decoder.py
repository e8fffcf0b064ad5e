"""From codes to sound: the flow against a field that is known, pieces against the whole, the vocoder against the signal."""

import shutil

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.layers.masks import length_mask
from mmpt.storage import published_folder
from mmpt.tokenizers.speech.coder import FORMAT
from mmpt.tokenizers.speech.config import FlowConfig, MelDecoderConfig, ReferenceConfig, SpeechConfig
from mmpt.tokenizers.speech.direct import RIDGE, Direct
from mmpt.tokenizers.speech.features import log_mel, waveform
from mmpt.tokenizers.speech.flow import SIGMA, FlowDecoder, noise
from mmpt.tokenizers.speech.reference import ReferenceEncoder, stretches
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.speech.vocoder import load_vocoder, saved_vocoder, vocoder_batches
from mmpt.tokenizers.speech.vocoders.griffin_lim import GriffinLim
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.tokenizers.terms import Term
from mmpt.tokenizers.text import train_text_tokenizer
from mmpt.training.config import FitConfig

pytestmark = pytest.mark.slow

MELS = 16
VOICED = {"voice": 40, "reference": {"dim": 16, "blocks": 1}}
"""A decoder with a reference encoder."""
SHAPES = ({"flow": True}, {"flow": False}, {"flow": True, **VOICED})


def build(block: int | None = None, flow: bool = True, quantizer: dict | None = None, **decoder) -> SpeechTokenizer:
    torch.manual_seed(0)
    config = SpeechConfig(
        quantizer=quantizer or {"kind": "fsq", "levels": [4, 4]},
        encoder={"dim": 16, "heads": 2, "conv_blocks": 0, "layers_pooled": 1, "attention": 1, "layers_after": 1},
        decoder={
            "dim": 16, "heads": 2, "layers": 1, "blocks": 1, "attention": 1, "block": block,
            "flow": {"dim": 16, "blocks": 1, "steps": 3} if flow else None, **decoder,
        },
        mels=MELS,
        window=6,
    )  # fmt: skip
    model = SpeechTokenizer(config, train_text_tokenizer(["a b"], 260)).eval()
    model.use_vocoder(Istft(mels=MELS, dim=16, blocks=1).build())
    model.default_voice.normal_()
    for parameter in model.parameters():  # nothing stays at the zeros that it began with
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def test_a_flow_learns_a_distribution_that_a_mean_cannot_hold():
    """Each utterance is all −1 or all +1, told only by its voice for half of them: drawn ones are near ±1, never near 0."""
    torch.manual_seed(0)
    flow = FlowDecoder(FlowConfig(dim=32, blocks=2, steps=16, guidance=0.0), 4, 1, causal=False)
    optimizer = torch.optim.AdamW(flow.parameters(), 3e-3)
    frames = torch.full((64,), 12)
    for _ in range(400):
        signs = torch.randint(2, (64, 1)).float() * 2 - 1
        told = torch.rand(64, 1) < 0.5
        target = signs[..., None].expand(64, 12, 4)
        term = flow.loss(target, torch.zeros(64, 12, 4), frames, signs * told, torch.ones(64, 12, dtype=torch.bool))
        optimizer.zero_grad()
        (term.total / term.count).backward()
        optimizer.step()
    with torch.inference_mode():
        for voice in (-1.0, 1.0):
            drawn = flow.sample(torch.zeros(1, 12, 4), torch.tensor([12]), torch.tensor([[voice]]), [0])
            assert (drawn * voice).mean() > 0.7
        drawn = [flow.sample(torch.zeros(1, 12, 4), torch.tensor([12]), torch.zeros(1, 1), [0], seed=s).mean() for s in range(30)]
    middle = torch.stack(drawn)
    assert (middle.abs() > 0.5).float().mean() > 0.7 and middle.min() < -0.5 and middle.max() > 0.5


def test_the_loss_is_that_of_the_straight_path(monkeypatch):
    flow = FlowDecoder(FlowConfig(dim=16, blocks=1), 4, 1, causal=False)
    target, frames = torch.randn(8, 10, 4), torch.tensor([10, 4, 7, 10, 1, 10, 3, 9])
    seen = {}

    def velocity(x, time, coarse, mask, voice, prompt):
        seen.update(x=x, time=time, prompt=prompt, mask=mask)
        return torch.zeros_like(x)

    monkeypatch.setattr(flow, "velocity", velocity)
    torch.manual_seed(3)
    term = flow.loss(target, torch.randn(8, 10, 4), frames, torch.zeros(8, 1), length_mask(frames, 10))
    time = seen["time"][:, None, None]
    start = (seen["x"] - time * target) / (1 - (1 - SIGMA) * time)  # the noise that x was made of
    given = (seen["prompt"] != 0).any(dim=-1)
    valid = torch.arange(10) < frames[:, None]
    expected = ((target - (1 - SIGMA) * start).square().sum(dim=-1) * valid)[:, :].double()
    # A prompt is given to some and not counted; where the condition is dropped it is hidden too, so bounds are all that is known.
    assert float(term.count) <= 4 * int(valid.sum()) and float(term.count) >= 4 * int((valid & ~given).sum()) - 4 * 8 * 8
    assert float(term.total) <= float(expected.sum()) * (1 + 1e-4)
    assert 0 < given.any(dim=1).sum() < 8


@settings(deadline=None, max_examples=25)
@given(start=st.integers(0, 500), frames=st.integers(0, 200), seed=st.integers(0, 5))
def test_noise_is_a_function_of_its_place(start, frames, seed):
    whole = noise(0, 800, MELS, seed)
    assert torch.equal(noise(start, frames, MELS, seed), whole[start : start + frames])
    assert not torch.equal(noise(0, 8, MELS, seed), noise(0, 8, MELS, seed + 1))


@settings(deadline=None, max_examples=25)
@given(block=st.sampled_from([None, 1, 3]), shape=st.sampled_from(SHAPES), count=st.integers(1, 60), data=st.data())
def test_pieces_are_the_whole(block, shape, count, data):
    model = build(block, **shape)
    codes = np.random.default_rng(count).integers(0, 16, count)
    voice = model._voice_or_default(None)
    with torch.inference_mode():
        whole = model._spoken([codes], torch.tensor([count]), voice, [0])[0]
        windows = model._mels([codes], voice)[0]
        torch.testing.assert_close(windows, whole, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(
            model.speaker.vocoder(whole[None], torch.tensor([len(whole)]))[0], model.speaker.waveform(whole)
        )
    expected = model.decode([codes])[0]
    assert expected.shape == (count * 1280,) and expected.dtype == np.float32
    given, at = [], 0
    with model.speaking() as stream:
        while at < count:
            step, silent = data.draw(st.integers(1, 12)), stream.silent
            given.append(stream.push(codes[at : at + step]))
            assert not len(given[-1]) or len(codes[at : at + step]) > silent
            at += step
        given.append(stream.finish())
        with pytest.raises(DataError, match="finished"):
            stream.push(codes)
    np.testing.assert_allclose(np.concatenate(given), expected, atol=2e-4)


def test_a_causal_stream_speaks_before_the_end():
    model = build(block=2)
    with model.speaking() as stream:
        first = stream.push(np.arange(8) % 16)
        late = 8 * 1280 - len(first)
        assert 0 < late <= model.speaker.vocoder.reach * 160
        with pytest.raises(DataError, match="code 16, expected 0 … 15"):
            stream.push(np.array([16]))


def test_neighbours_change_nothing():
    model = build()
    rows = [np.random.default_rng(n).integers(0, 16, n) for n in (1, 5, 13, 40)]
    for row, sound in zip(rows, model.decode(rows), strict=True):
        np.testing.assert_allclose(model.decode([row])[0], sound, atol=1e-4)


def test_a_prompt_gives_the_voice_and_the_beginning():
    model = build()
    prompt = (0.1 * np.sin(np.arange(1280 * 3) / 9)).astype(np.float32)
    codes = np.array([3, 4, 5])
    after = model.decode([codes, codes[:1]], prompt=prompt)
    assert [len(sound) for sound in after] == [3 * 1280, 1280]
    assert np.abs(after[0] - model.decode([codes], voice=model.voice(prompt))[0]).max() > 1e-4  # what went before is heard
    with pytest.raises(DataError, match="a voice and a prompt"):
        model.decode([codes], voice=model.voice(prompt), prompt=prompt)
    with pytest.raises(DataError, match="NaN"):
        model.decode([codes], prompt=np.full(3, np.nan, np.float32))


def test_a_vocoder_is_saved_with_the_tokenizer_and_must_fit(tmp_path):
    model = build()
    model.save(tmp_path / "tokenizer")
    codes = np.arange(16)
    assert np.array_equal(SpeechTokenizer.load(tmp_path / "tokenizer").decode([codes])[0], model.decode([codes])[0])
    with pytest.raises(ConfigError, match="takes 24 mel bands, the tokenizer makes 16"):
        model.use_vocoder(Istft(mels=24).build())
    model.speaker.vocoder.save(tmp_path / "vocoder")
    assert saved_vocoder(tmp_path / "vocoder").config == model.speaker.vocoder.config
    with pytest.raises(CheckpointError):
        saved_vocoder(tmp_path / "tokenizer")


def test_griffin_lim_is_named_by_its_kind_and_needs_no_weights(tmp_path):
    """The default, in folders that say so and in older ones that name no vocoder."""
    mel = log_mel(torch.randn(4000, generator=torch.Generator().manual_seed(0)), MELS, 25)
    vocoder = load_vocoder("griffin_lim", MELS)
    assert torch.equal(vocoder.speak(mel), waveform(mel))
    model = build()
    model.use_vocoder(GriffinLim(iterations=4).build())
    assert torch.equal(model.speaker.waveform(mel), waveform(mel, 4))
    model.save(tmp_path / "tokenizer")
    assert SpeechTokenizer.load(tmp_path / "tokenizer").speaker.vocoder.config == GriffinLim(iterations=4)
    with published_folder(tmp_path / "older", {"format": FORMAT}) as older:
        for name in ("config.json", "model.safetensors", "text"):
            (shutil.copytree if name == "text" else shutil.copy)(tmp_path / "tokenizer" / name, older / name)
    assert SpeechTokenizer.load(tmp_path / "older").speaker.vocoder.config == GriffinLim()
    with pytest.raises(ConfigError, match="istft has weights to learn"):
        load_vocoder("istft", MELS)


@pytest.mark.parametrize("iterations", [1, 5, 32])
def test_griffin_lim_hears_its_reach_and_no_further(iterations):
    vocoder = GriffinLim(iterations=iterations).build()
    mel = log_mel(0.1 * torch.randn(160 * 400, generator=torch.Generator().manual_seed(0)), 40, 400)
    whole, reach = vocoder.speak(mel), vocoder.reach
    changed = mel.clone()
    changed[200] += 0.5
    moved = (vocoder.speak(changed) - whole).abs().gt(1e-6).nonzero()
    assert (200 - reach) * 160 <= moved.min() and moved.max() < (201 + reach) * 160
    assert moved.max() - moved.min() > 160 * iterations  # nor is it much more than that
    piece = vocoder.speak(mel[150 - reach : 250 + reach])[reach * 160 :][: 100 * 160]
    torch.testing.assert_close(piece, whole[150 * 160 : 250 * 160], atol=1e-4, rtol=0)


def test_pieces_of_24_khz_are_the_whole():
    model = build(block=2)
    model.use_vocoder(Istft(mels=MELS, dim=16, blocks=1, rate=24_000, window=960).build().eval())
    codes = np.random.default_rng(0).integers(0, 16, 30)
    (whole,) = model.decode([codes])
    assert model.sound_rate == 24_000 and len(whole) == 30 * 1920
    with model.speaking() as stream:
        pieces = [*(stream.push(codes[start : start + 7]) for start in range(0, 30, 7)), stream.finish()]
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=2e-4)
    with pytest.raises(pydantic.ValidationError, match="window is 640, expected a multiple of the 240 samples"):
        Istft(rate=24_000)


def test_a_vocoder_of_24_khz_hears_16_khz():
    """What is above 8 kHz is not in the log-mel, and what lies below is where it was."""
    time = np.arange(24_000) / 24_000
    sound = (0.2 * np.sin(2 * np.pi * 1000 * time) + 0.2 * np.sin(2 * np.pi * 10_000 * time)).astype(np.float32)
    plan = FitConfig(steps=1, batch_size=2, optimizer={"learning_rate": 1e-3})
    mel, samples = vocoder_batches([sound], Istft(mels=40, crop=40, rate=24_000, window=960), plan)(0)
    assert samples.shape == (2, 40 * 240) and mel.shape == (2, 40, 40)
    loud = mel[:, 5:-5].mean(dim=(0, 1))
    tone = log_mel(torch.from_numpy(np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)), 40, 100)[50]
    assert loud.argmax() == tone.argmax() and loud[-4:].max() < loud.max() - 1.5


@pytest.mark.parametrize("voiced", [{}, VOICED])
def test_all_of_it_runs_in_bfloat16(voiced):
    exact, model = build(**voiced), build(**voiced).to(torch.bfloat16)
    sound = (0.1 * np.sin(np.arange(1280 * 5) / 9)).astype(np.float32)
    voice, codes = model.voice(sound), np.arange(12)
    assert voice.dtype == np.float32 and np.abs(voice - exact.voice(sound)).max() < 0.3
    for options in ({}, {"voice": voice}, {"prompt": sound}):
        (found,), (expected,) = model.decode([codes], **options), exact.decode([codes], **options)
        assert found.dtype == np.float32 and found.shape == expected.shape and np.isfinite(found).all()
    with model.speaking(voice) as stream:
        assert len(np.concatenate([stream.push(codes), stream.finish()])) == 12 * 1280


def test_a_voice_is_of_its_stretch_alone_and_not_of_what_fills_a_batch():
    torch.manual_seed(0)
    encoder = ReferenceEncoder(ReferenceConfig(dim=16, blocks=2), MELS, 2 * MELS + 6).eval()
    mel, stretch = torch.randn(2, 30, MELS), torch.zeros(2, 30, dtype=torch.bool)
    stretch[:, 5:20] = True
    found = encoder(mel, stretch)
    changed = torch.where(stretch[..., None], mel, torch.randn_like(mel))
    torch.testing.assert_close(encoder(changed, stretch), found)
    alone = encoder(mel[:1, 5:20], torch.ones(1, 15, dtype=torch.bool))
    torch.testing.assert_close(alone[0], found[0])
    torch.testing.assert_close(alone[0, :MELS], mel[0, 5:20].mean(dim=0))
    torch.testing.assert_close(alone[0, MELS : 2 * MELS], mel[0, 5:20].std(dim=0, correction=0))
    louder = torch.where(torch.arange(30)[:, None] == 7, mel + 1, mel)
    assert (encoder(louder, stretch) - found).abs().max() > 1e-3


def test_least_squares_are_those_of_a_library():
    random = np.random.default_rng(0)
    direct, utterances = Direct(dim=3, mels=2, frames=4, causal=False), []
    for length in (40, 25, 60):
        states = (random.normal(0, 1, (length, 3)) * [1, 100, 0.1] + [0, 50, 3]).astype(np.float32)
        utterances.append(
            (states, random.normal(size=(4 * length, 2)).astype(np.float32), random.normal(size=4).astype(np.float32))
        )
    rows = [tuple(map(torch.from_numpy, one)) for one in utterances]
    direct.learn([states for states, *_ in rows], rows)
    every = np.concatenate([states for states, *_ in utterances])
    inputs = []
    for states, _, voice in utterances:
        padded = np.pad((states - every.mean(axis=0)) / every.std(axis=0, ddof=1), ((3, 3), (0, 0)))
        about = np.stack([padded[at : at + 7].T.reshape(-1) for at in range(len(states))])  # of each value, the seven codes
        inputs.append(np.column_stack([about, np.tile(voice, (len(states), 1)), np.ones(len(states))]))
    x, y = np.concatenate(inputs), np.concatenate([mel.reshape(-1, 8) for _, mel, _ in utterances])
    pull = np.sqrt(RIDGE * np.square(x).sum() / x.shape[1]) * np.eye(x.shape[1])
    solved = np.linalg.lstsq(np.concatenate([x, pull]), np.concatenate([y, np.zeros((len(pull), 8))]), rcond=None)[0]
    for (states, _, voice), row in zip(rows, inputs, strict=True):
        found = direct(states[None], torch.ones(1, len(states), dtype=torch.bool), voice[None])[0]
        np.testing.assert_allclose(found.numpy(), (row @ solved).reshape(-1, 2), atol=2e-4)


def test_the_voice_is_taken_of_what_is_not_to_be_spoken():
    """Learned frames and those that the voice comes from are never the same, and both are there."""
    config, frames = ReferenceConfig(shortest=0.3, longest=0.5), torch.tensor([100, 40, 8])
    torch.manual_seed(0)
    for _ in range(20):
        taken = stretches(frames, 100, config)
        count = taken.sum(dim=1)
        assert (count >= 0.3 * frames - 1).all() and (count <= 0.5 * frames).all()
        assert not (taken & ~length_mask(frames, 100)).any()
        assert (taken.int().diff(dim=1) != 0).sum(dim=1).max() <= 2  # one stretch
    model, target = build(**VOICED), torch.randn(3, 48, MELS)
    states, lengths = torch.randn(3, 6, 2), torch.tensor([6, 4, 2])
    seen = {}
    model.speaker.coarse.loss = lambda mel, counted, target: seen.update(counted=counted) or Term(mel.sum(), mel.new_tensor(1.0))
    encode = model.speaker.reference.forward
    model.speaker.reference.forward = lambda mel, stretch: seen.update(taken=stretch) or encode(mel, stretch)
    model.speaker.losses(states, lengths, target, with_flow=False)
    assert not (seen["counted"] & seen["taken"]).any()
    assert torch.equal(seen["counted"] | seen["taken"], length_mask(lengths * 8, 48))


def test_another_decoder_takes_the_place_of_one_and_must_fit():
    model, other = build(), build(**VOICED)
    codes, vocoder = np.arange(16), model.speaker.vocoder
    model.use_decoder(other.speaker)
    assert model.speaker.vocoder is vocoder and model.default_voice.shape == (40,)
    model.use_vocoder(other.speaker.vocoder)
    model.default_voice.copy_(other.default_voice)
    np.testing.assert_array_equal(model.decode([codes])[0], other.decode([codes])[0])
    model.use_decoder(MelDecoderConfig(dim=16, heads=2, voice=5))
    assert model.voice(np.ones(1280, np.float32)).shape == (5,) and model.config.decoder.voice == 5
    with pytest.raises(ConfigError, match="16 mel bands, 8 frames for a code of 2 values, expected .* of 3 values"):
        build(quantizer={"kind": "fsq", "levels": [4, 4, 4]}).use_decoder(other.speaker)


def test_a_vocoder_learns_a_tone_that_does_not_repeat_with_the_frames():
    """525 Hz is no multiple of the frame rate: without turning bins only 500 or 600 Hz could come out of equal frames."""
    torch.manual_seed(0)
    config = Istft(mels=24, dim=32, blocks=1, crop=20)
    tone = (0.3 * np.sin(2 * np.pi * 525 / 16_000 * np.arange(16_000))).astype(np.float32)
    plan = FitConfig(steps=1, batch_size=4, optimizer={"learning_rate": 1e-3})
    batches, vocoder = vocoder_batches([tone], config, plan), config.build()
    optimizer = torch.optim.AdamW(vocoder.parameters(), 4e-3)

    def learned() -> bool:
        made = vocoder.speak(log_mel(torch.from_numpy(tone), 24, 100)).numpy()
        peak = np.abs(np.fft.rfft(made[3200:12_800])).argmax() / 9600 * 16_000
        return abs(peak - 525) <= 30 and peak % 100 > 1 and np.abs(made).max() <= 1.0

    assert not learned()
    for step in range(400):
        if step % 25 == 0 and learned():
            return
        terms = vocoder.loss(batches(step), 0.0)
        optimizer.zero_grad()
        sum(term.weight * term.total / term.count for term in terms.values()).backward()
        optimizer.step()
    assert learned()


def test_vocoder_batches_are_a_function_of_the_step_whatever_the_ranks():
    sounds = [np.random.default_rng(n).normal(0, 0.1, 9000 * (n + 1)).astype(np.float32) for n in range(3)]
    plan = FitConfig(steps=1, batch_size=4, optimizer={"learning_rate": 1e-3})
    config = Istft(mels=16, crop=20)
    one, other = (vocoder_batches(sounds, config, plan) for _ in range(2))
    assert torch.equal(one(5).samples, other(5).samples) and not torch.equal(one(5).samples, one(6).samples)
    halves = [one(5, rank, 2).samples for rank in range(2)]
    assert torch.equal(torch.cat(halves), one(5).samples)
    torch.testing.assert_close(one(5).mel[0], log_mel(one(5).samples[0], 16, 20))
    with pytest.raises(DataError, match="no speech"):
        vocoder_batches([], config, plan)
