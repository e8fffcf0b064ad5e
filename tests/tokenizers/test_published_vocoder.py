"""SpeechT5's HiFi-GAN as a vocoder: its log-mel against transformers' own, its weights, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SpeechT5FeatureExtractor, SpeechT5HifiGan, SpeechT5HifiGanConfig

from mmpt.errors import CheckpointError, ConfigError
from mmpt.tokenizers.speech import vocoder as vocoder_module
from mmpt.tokenizers.speech.config import HOP
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.vocoder import build_vocoder, load_vocoder
from mmpt.tokenizers.speech.vocoders._istft import IstftVocoder
from mmpt.tokenizers.speech.vocoders._speecht5 import speecht5_log_mel
from mmpt.tokenizers.speech.vocoders.istft import Istft


def checkpoint(folder: Path, **changes) -> Path:
    """A small one of transformers' class with random weights."""
    torch.manual_seed(0)
    values = {
        "upsample_initial_channel": 16, "upsample_rates": (8, 8, 4), "upsample_kernel_sizes": (16, 16, 8),
        "resblock_kernel_sizes": (3, 5), "resblock_dilation_sizes": ((1, 3), (1, 2)), "initializer_range": 0.2, **changes,
    }  # fmt: skip
    SpeechT5HifiGan(SpeechT5HifiGanConfig(**values)).save_pretrained(folder)
    return folder


def voiced(seconds: float) -> np.ndarray:
    """Harmonics of a gliding pitch with formant-like weights, and pauses: as lines and gaps of speech are."""
    time = np.arange(int(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * time)) / 16_000
    tones = sum(np.sin(k * phase) * np.exp(-((120 * k - 700) ** 2) / 8e5) for k in range(1, 40))
    samples = tones * (np.sin(5 * time) > -0.5) + 0.01 * np.random.default_rng(0).normal(size=len(time))
    return (0.2 * samples / np.abs(samples).max()).astype(np.float32)


@pytest.mark.parametrize("kind", ["voiced", "noise"])
def test_our_log_mel_is_turned_into_speecht5s(kind):
    samples = voiced(2.0) if kind == "voiced" else np.random.default_rng(0).normal(0, 0.1, 32_000).astype(np.float32)
    expected = torch.tensor(SpeechT5FeatureExtractor()(audio_target=samples, sampling_rate=16_000)["input_values"][0])
    found = speecht5_log_mel(log_mel(torch.from_numpy(samples), 80, len(samples) // HOP))
    assert len(found) == -(-len(samples) // 256)
    size = min(len(found), len(expected))
    found, expected = found[2 : size - 2], expected[2 : size - 2]
    heard = expected > expected.max() - 2.5  # the louder 50 dB
    difference = (found - expected)[heard]
    bias, distance = (0.12, 0.3) if kind == "voiced" else (0.04, 0.12)  # harmonics that only the longer window resolves
    assert abs(difference.mean()) < bias and difference.abs().mean() < distance
    if kind == "voiced":
        assert np.corrcoef(found[heard], expected[heard])[0, 1] > 0.7


def test_it_speaks_our_log_mel_with_the_published_weights(tmp_path):
    vocoder = load_vocoder(checkpoint(tmp_path), 64)
    reference = SpeechT5HifiGan.from_pretrained(tmp_path).eval()
    mel = log_mel(torch.from_numpy(voiced(0.5)), 64, 50)
    with torch.inference_mode():
        expected = reference(speecht5_log_mel(mel))[: 50 * HOP]
    found = vocoder.speak(mel)
    assert torch.equal(found, expected) and found.std() > 1e-3 and not vocoder.training
    again = build_vocoder(vocoder.config.model_dump(mode="json"), "vocoder.json")
    again.load_state_dict(vocoder.state_dict())
    assert torch.equal(again.speak(mel), found)


def test_pieces_with_their_reach_are_the_whole(tmp_path, monkeypatch):
    vocoder = load_vocoder(checkpoint(tmp_path), 64)
    mel = log_mel(torch.from_numpy(voiced(3.0)), 64, 300)
    whole = vocoder.speak(mel)
    monkeypatch.setattr(vocoder_module, "PIECE", 70)
    torch.testing.assert_close(vocoder.speak(mel), whole, atol=1e-5, rtol=0)
    changed = mel.clone()
    changed[150] += 1.0
    moved = (vocoder.speak(changed) - whole).abs().gt(1e-4).nonzero()
    assert (150 - vocoder.reach) * HOP <= moved.min() and moved.max() < (151 + vocoder.reach) * HOP
    assert moved.min() < 145 * HOP


def test_another_published_vocoder_is_refused_with_every_difference(tmp_path):
    other = {"sampling_rate": 22_050, "model_in_dim": 100, "upsample_rates": (8, 8, 2), "upsample_kernel_sizes": (16, 16, 4)}
    folder = checkpoint(tmp_path / "other", **other)
    with pytest.raises(ConfigError, match=r"(?s)sampling_rate: 22050, expected 16000.*model_in_dim: 100.*hop: 128, expected 256"):
        load_vocoder(folder, 80)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["UnivNetModel"]}))
    with pytest.raises(ConfigError, match="UnivNetModel.*expected SpeechT5HifiGan"):
        load_vocoder(folder, 80)
    with pytest.raises(ConfigError, match="no vocoder there"):
        load_vocoder(tmp_path / "nowhere", 80)


def test_weights_that_are_not_whole_or_pickled_are_refused(tmp_path):
    folder = checkpoint(tmp_path)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if name != "conv_post.bias"}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="conv_post.bias"):
        load_vocoder(str(folder), 80)
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="safetensors alone"):
        load_vocoder(str(folder), 80)


def test_one_of_ours_is_loaded_from_its_folder_and_must_fit(tmp_path):
    vocoder = Istft(mels=24, dim=16, blocks=1).build()
    vocoder.save(tmp_path / "vocoder")
    loaded = load_vocoder(tmp_path / "vocoder", 24)
    assert isinstance(loaded, IstftVocoder) and loaded.config == vocoder.config
    with pytest.raises(ConfigError, match="24 mel bands, expected 80"):
        load_vocoder(tmp_path / "vocoder", 80)
