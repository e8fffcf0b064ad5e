"""Codes of long audio by windows and of streams are those of the whole."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.errors import DataError

from .tiny_speech import build, noise

pytestmark = pytest.mark.slow


def test_a_code_depends_on_its_surroundings_alone():
    model = build(encoder={"attention": 2}).eval()
    mel = torch.randn(1, 16 * 8, 32)
    changed = mel.clone()
    changed[:, 12 * 8 :] += 3.0
    with torch.inference_mode():
        one, other = (model.encoder.states(m, torch.tensor([16])) for m in (mel, changed))
    # two layers look 2 codes ahead each; stem and convolution less than one more
    torch.testing.assert_close(one[:, :7], other[:, :7], atol=1e-6, rtol=0)
    assert (one[:, 12:] - other[:, 12:]).abs().max() > 1e-2


@settings(deadline=None, max_examples=20)
@given(
    pool=st.sampled_from([1, 2, 4, 8]), block=st.sampled_from([None, 1, 2, 5]), attention=st.integers(0, 4),
    layers=st.integers(0, 2), convs=st.integers(0, 2), size=st.integers(1, 12), samples=st.integers(1, 60_000),
)  # fmt: skip
def test_windows_give_the_codes_of_the_whole_each_once(pool, block, attention, layers, convs, size, samples):
    shape = {"block": block, "attention": attention, "layers_before": layers, "layers_pooled": layers, "conv_blocks": convs}
    model = build(encoder=shape, pool=pool, window=size, quantizer={"kind": "fsq", "levels": [8, 8, 8]}).eval()
    sound = noise(samples)
    count = -(-samples // model.config.samples_per_code)
    whole = model._encoded(lambda found: found.codes, [sound], torch.tensor([count]))[0]
    assert np.array_equal(model.encode([sound])[0], whole) and len(whole) == count


@settings(deadline=None, max_examples=20)
@given(
    block=st.sampled_from([None, 1, 3]), samples=st.integers(0, 50_000), data=st.data(),
    stages=st.sampled_from([1, 2]), attention=st.integers(0, 3), layout=st.sampled_from(["flatten", "delay"]),
)  # fmt: skip
def test_a_stream_gives_the_codes_of_the_whole_audio(block, samples, data, stages, attention, layout):
    quantizer = {"kind": "residual", "stages": stages, "stage": {"codes": 16, "dim": 4}}
    model = build(encoder={"block": block, "attention": attention}, quantizer=quantizer, layout=layout).eval()
    torch.manual_seed(1)
    for stage in model.encoder.quantizer.stages:
        stage.codebook.normal_()
    sound, given, at = noise(samples), [], 0
    with model.streaming() as stream:
        while at < samples:
            step = data.draw(st.integers(1, 9000))
            given.append(stream.push(sound[at : at + step]))
            at += step
            late = min(at, samples) - -(-sum(map(len, given)) // stages) * 1280
            assert late < stream.latency + 1280 if block else late <= stream.latency + 1280
        given.append(stream.finish())
    expected = model.encode([sound])[0] if samples else np.zeros(0)
    assert np.array_equal(np.concatenate(given), expected)


def test_a_causal_stream_waits_for_its_block_alone():
    model = build(encoder={"block": 1}).eval()
    with model.streaming() as stream:
        assert stream.latency == 1280  # 80 ms
        assert len(stream.push(noise(1279))) == 0 and len(stream.push(noise(1))) == 1
        with pytest.raises(DataError, match="NaN"):
            stream.push(np.full(5000, np.nan, np.float32))
        assert len(stream.push(noise(1280))) == 1 and len(stream.finish()) == 0
        with pytest.raises(DataError, match="finished"):
            stream.push(noise(1280))


def test_long_audio_is_encoded_in_bounded_pieces(monkeypatch):
    """What the encoder is given at once does not grow with the length."""
    model = build(window=375, encoder={"dim": 8, "heads": 1}).eval()
    states, sizes = model.encoder.states, []

    def watched(mel, lengths):
        sizes.append(mel[0].numel())
        return states(mel, lengths)

    monkeypatch.setattr(model.encoder, "states", watched)
    sound = np.tile(noise(16_000 * 60), 20)
    model.encode([sound[: len(sound) // 2]])
    bound, calls = max(sizes), len(sizes)
    (codes,) = model.encode([sound])
    assert len(codes) == 20 * 750 and max(sizes) == bound and len(sizes) > 2 * calls  # neither longer pieces nor more at once
    assert np.array_equal(codes[750 : 2 * 750], codes[2 * 750 : 3 * 750])  # each minute has the same surroundings
