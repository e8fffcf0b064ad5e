"""Log-mel against librosa, the way back to a waveform, and the variations of training speech."""

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.tokenizers.speech.augment import disturb, mel_centers, reverberate, warp
from mmpt.tokenizers.speech.config import AugmentConfig
from mmpt.tokenizers.speech.features import SILENCE, compress, expand, linear_power, log_mel, mel_filters, mel_power, waveform
from mmpt.tokenizers.speech.griffin_lim import griffin_lim

STILL = AugmentConfig(speed=0, pitch=0, gain=0, tilt=0, noise=0, time_mask=0, mel_mask=0)


def tone(hertz: float, seconds: float = 0.5, level: float = 0.3) -> torch.Tensor:
    return level * torch.sin(2 * torch.pi * hertz * torch.arange(int(16000 * seconds)) / 16000)


@pytest.mark.slow
@pytest.mark.parametrize("mels", [64, 80])
def test_mel_equals_librosas(mels):
    samples = np.random.default_rng(0).normal(0, 0.1, 9000).astype(np.float32)
    expected = librosa.feature.melspectrogram(
        y=samples, sr=16000, n_fft=400, hop_length=160, n_mels=mels, center=True, pad_mode="constant", power=2.0
    )
    ours = mel_power(torch.from_numpy(samples), mels)
    assert ours.shape == (9000 // 160 + 1, mels)
    np.testing.assert_allclose(ours.numpy(), expected.T, rtol=2e-4, atol=1e-6)
    np.testing.assert_allclose(mel_filters(mels).numpy(), librosa.filters.mel(sr=16000, n_fft=400, n_mels=mels).T, atol=1e-7)
    np.testing.assert_allclose(mel_centers(mels), librosa.mel_frequencies(n_mels=mels + 2, fmax=8000)[1:-1], rtol=1e-6)


@settings(deadline=None, max_examples=15)
@given(samples=st.integers(1, 5000), more=st.integers(0, 3000), frames=st.integers(1, 40))
def test_log_mel_takes_the_sound_to_go_on_in_silence(samples, more, frames):
    x = torch.randn(samples, generator=torch.Generator().manual_seed(samples)) * 0.1
    one, other = (log_mel(y, 80, frames) for y in (x, torch.cat([x, torch.zeros(more)])))
    assert one.shape == (frames, 80)
    torch.testing.assert_close(one, other, atol=1e-4, rtol=0)


def test_silence_is_the_floor_and_the_log_has_an_inverse():
    assert torch.allclose(log_mel(torch.zeros(4000), 80, 24), torch.tensor(SILENCE))
    power = torch.rand(7, 80) + 1e-4
    torch.testing.assert_close(expand(compress(power)), power, rtol=1e-4, atol=1e-6)


def test_a_waveform_of_a_log_mel_sounds_like_it():
    clean = tone(300) + tone(1250, level=0.1) + tone(3000, level=0.05) * (torch.arange(8000) > 4000)
    mel = log_mel(clean, 80, 48)
    samples = waveform(mel)
    assert samples.shape == (48 * 160,) and samples.abs().max() <= 1.0
    error = (log_mel(samples, 80, 48) - mel)[2:-2].abs().mean()  # one unit is 20 dB
    assert error < 0.15, f"{20 * error:.1f} dB"
    assert torch.equal(samples, waveform(mel))


def test_warp_without_change_is_the_identity():
    mel = log_mel(torch.randn(8000) * 0.1, 80, 48)
    torch.testing.assert_close(warp(mel, 1.0, 1.0, 48), mel, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pitch", [0.8, 1.25])
def test_warp_moves_a_tone_to_its_new_pitch(pitch):
    for hertz in (500.0, 2400.0):
        moved = warp(log_mel(tone(hertz), 80, 48), 1.0, pitch, 48)[20].argmax()
        expected = log_mel(tone(hertz * pitch), 80, 48)[20].argmax()
        assert abs(int(moved) - int(expected)) <= 1


def test_warp_plays_faster_and_fills_up_with_silence():
    sound = torch.cat([torch.zeros(4000), tone(500, 0.25)])
    mel = warp(log_mel(sound, 80, 48), 2.0, 1.0, 32)
    onset = int((mel.max(dim=1).values > 0).nonzero()[0])
    assert abs(onset - 12) <= 1
    assert (mel[26:] == SILENCE).all()


def test_disturb_changes_nothing_when_told_so_and_never_its_input():
    mel = log_mel(torch.randn(8000) * 0.1, 80, 48)
    kept = mel.clone()
    torch.testing.assert_close(disturb(mel, STILL, np.random.default_rng(0)), mel)
    changed = disturb(mel, AugmentConfig(gain=6, noise=1, time_mask=8, mel_mask=8), np.random.default_rng(0))
    assert torch.equal(mel, kept) and not torch.allclose(changed, mel, atol=0.05)


def test_gain_shifts_the_log_by_decibels_over_twenty():
    mel = log_mel(tone(500), 80, 48)
    loud = [disturb(mel, AugmentConfig(gain=6, tilt=0, noise=0), np.random.default_rng(i)) for i in range(20)]
    shifts = torch.stack([(each - mel)[mel > -0.5].mean() for each in loud])
    assert shifts.abs().max() <= 0.3 + 1e-5 and shifts.std() > 0.1


def test_noise_raises_quiet_frames_and_leaves_loud_ones():
    mel = log_mel(torch.cat([torch.zeros(4000), 0.1 * torch.randn(4000)]), 80, 48)
    noisy = disturb(mel, AugmentConfig(gain=0, tilt=0, noise=1), np.random.default_rng(1))
    assert (noisy >= mel - 1e-5).all()
    assert (noisy - mel)[:20].mean() > 0.1 and (noisy - mel)[30:].mean() < 0.1


def test_a_tilt_turns_the_spectrum_about_its_middle():
    mel = log_mel(0.1 * torch.randn(8000), 80, 48)
    turned = [disturb(mel, AugmentConfig(gain=0, tilt=8, noise=0), np.random.default_rng(i)) - mel for i in range(20)]
    for change in turned:
        torch.testing.assert_close(change, change[:1].expand_as(change), atol=1e-5, rtol=0)
        assert abs(float(change[0].mean())) < 1e-5 and abs(float(change[0, -1] - change[0, 0])) <= 8 / 20 + 1e-5
    assert torch.stack([change[0, -1] for change in turned]).std() > 0.05


def test_a_room_rings_on_after_the_sound_and_falls_by_sixty_decibels():
    mel = log_mel(torch.cat([0.1 * torch.randn(4000), torch.zeros(12_000)]), 80, 100)
    wet = reverberate(mel, 0.5, -10.0)
    assert (wet >= mel - 1e-5).all() and wet[:24].sub(mel[:24]).mean() < 0.2
    fall = 20 * (wet[30] - wet[50]).mean()  # over 0.2 of 0.5 s; a log-mel unit is 20 dB
    assert abs(float(fall) - 24) < 2
    assert (wet[85:] < SILENCE + 0.1).all()


def test_quiet_speech_is_the_same_speech():
    """30 dB down, a spectrum of ordinary level keeps its shape: the floor is below it."""
    sound = 0.1 * torch.randn(8000, generator=torch.Generator().manual_seed(0))
    loud, quiet = log_mel(sound, 80, 48), log_mel(10**-1.5 * sound, 80, 48)
    torch.testing.assert_close(quiet[2:], loud[2:] - 1.5, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("frames", "iterations"), [(30, 0), (30, 3), (4, 5), (101, 6)])
def test_griffin_lim_is_torchaudios(frames, iterations):
    """At few iterations, since each one magnifies rounding."""
    window, draw = torch.hann_window(400), torch.Generator().manual_seed(frames)
    magnitude = torch.rand(frames, 201, generator=draw)
    wanted = torchaudio.functional.griffinlim(
        magnitude.t()[None], window, 400, 160, 400, power=1.0, n_iter=iterations, momentum=0.99, length=(frames - 1) * 160,
        rand_init=False,
    )[0]  # fmt: skip
    found = griffin_lim(magnitude, window, 160, iterations)
    assert found.shape == wanted.shape and (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_what_an_evaluation_asked_for_first_serves_a_training():
    with torch.inference_mode():
        compress(mel_power(torch.zeros(800), 23))
        waveform(torch.zeros(6, 23), 2)
    samples, log = (0.1 * torch.randn(800)).requires_grad_(), torch.zeros(6, 23, requires_grad=True)
    compress(mel_power(samples, 23)).sum().backward()
    assert samples.grad.abs().max() > 0
    linear_power(log).sum().backward()
    assert log.grad.abs().max() > 0
