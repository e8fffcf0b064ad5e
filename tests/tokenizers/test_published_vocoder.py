"""Published vocoders, SpeechT5's HiFi-GAN and Vocos: their log-mels against their own, their weights, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
import torchaudio
import yaml
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import SpeechT5FeatureExtractor, SpeechT5HifiGan, SpeechT5HifiGanConfig

from mmpt.errors import CheckpointError, ConfigError
from mmpt.tokenizers.speech import vocoder as vocoder_module
from mmpt.tokenizers.speech.config import HOP
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.vocoder import build_vocoder, load_vocoder
from mmpt.tokenizers.speech.vocoders._istft import IstftVocoder
from mmpt.tokenizers.speech.vocoders._speecht5 import speecht5_log_mel
from mmpt.tokenizers.speech.vocoders._vocos import vocos_log_mel
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.tokenizers.speech.vocoders.vocos import Vocos


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


VOCOS = {
    "feature_extractor": {
        "class_path": "vocos.feature_extractors.MelSpectrogramFeatures",
        "init_args": {"sample_rate": 24000, "n_fft": 1024, "hop_length": 256, "n_mels": 100, "padding": "center"},
    },
    "backbone": {
        "class_path": "vocos.models.VocosBackbone",
        "init_args": {"input_channels": 100, "dim": 12, "intermediate_dim": 20, "num_layers": 2},
    },
    "head": {
        "class_path": "vocos.heads.ISTFTHead",
        "init_args": {"dim": 12, "n_fft": 1024, "hop_length": 256, "padding": "center"},
    },
}


def vocos(folder: Path, content: dict = VOCOS) -> dict[str, torch.Tensor]:
    """A small checkpoint with random weights in Vocos' layout; returns them."""
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"backbone.embed.weight": (12, 100, 7), "backbone.embed.bias": (12,)}
    shapes |= {"head.out.weight": (1026, 12), "head.out.bias": (1026,)}
    shapes |= {f"backbone.{norm}.{part}": (12,) for norm in ("norm", "final_layer_norm") for part in ("weight", "bias")}
    for layer in range(2):
        sizes = {
            "gamma": (12,), "dwconv.weight": (12, 1, 7), "dwconv.bias": (12,), "norm.weight": (12,), "norm.bias": (12,),
            "pwconv1.weight": (20, 12), "pwconv1.bias": (20,), "pwconv2.weight": (12, 20), "pwconv2.bias": (12,),
        }  # fmt: skip
        shapes |= {f"backbone.convnext.{layer}.{name}": shape for name, shape in sizes.items()}
    weights = {name: 0.3 * torch.randn(shape) for name, shape in shapes.items()}
    kept = {"feature_extractor.mel_spec.mel_scale.fb": torch.zeros(513, 100), "head.istft.window": torch.hann_window(1024)}
    folder.mkdir(exist_ok=True)
    save_file(weights | kept, folder / "model.safetensors")
    (folder / "config.yaml").write_text(yaml.safe_dump(content))
    return weights


def vocos_sound(own: torch.Tensor, weights: dict[str, torch.Tensor]) -> torch.Tensor:
    """The waveform of its own log-mel [T, 100], by the names of the weights and functions alone."""
    of = {name.removeprefix("backbone."): value for name, value in weights.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (12,), of[f"{name}.weight"], of[f"{name}.bias"], 1e-6)

    x = norm(F.conv1d(own.t()[None], of["embed.weight"], of["embed.bias"], padding=3).transpose(1, 2), "norm")
    for layer in ("convnext.0", "convnext.1"):
        y = F.conv1d(x.transpose(1, 2), of[f"{layer}.dwconv.weight"], of[f"{layer}.dwconv.bias"], padding=3, groups=12)
        y = norm(y.transpose(1, 2), f"{layer}.norm")
        y = F.gelu(F.linear(y, of[f"{layer}.pwconv1.weight"], of[f"{layer}.pwconv1.bias"]))
        x = x + of[f"{layer}.gamma"] * F.linear(y, of[f"{layer}.pwconv2.weight"], of[f"{layer}.pwconv2.bias"])
    size, phase = F.linear(norm(x, "final_layer_norm"), of["head.out.weight"], of["head.out.bias"])[0].t().chunk(2)
    spectrum = size.exp().clamp(max=100) * (phase.cos() + 1j * phase.sin())
    return torch.istft(spectrum, 1024, 256, window=torch.hann_window(1024))


def test_vocos_speaks_with_the_published_weights(tmp_path):
    weights = vocos(tmp_path / "vocos")
    vocoder = load_vocoder(tmp_path / "vocos", 64)
    assert vocoder.config.sound_rate == 24_000 and not vocoder.training
    mel = log_mel(torch.from_numpy(voiced(0.5)), 64, 50)
    expected = vocos_sound(vocos_log_mel(mel, vocoder.config), weights)[: 50 * 240]
    found = vocoder.speak(mel)
    torch.testing.assert_close(found, expected.clamp(-1, 1), atol=1e-5, rtol=1e-4)
    assert found.shape == (12_000,) and found.std() > 1e-3
    again = build_vocoder(vocoder.config.model_dump(mode="json"), "vocoder.json")
    again.load_state_dict(vocoder.state_dict())
    assert torch.equal(again.speak(mel), found)


def test_our_log_mel_is_turned_into_that_of_vocos():
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    theirs = torchaudio.transforms.MelSpectrogram(24_000, 1024, hop_length=256, n_mels=100, power=1, center=True)
    expected = theirs(torch.from_numpy(noise)).clamp_min(1e-7).log().t()
    found = vocos_log_mel(log_mel(torch.from_numpy(soxr.resample(noise, 24_000, 16_000)), 80, 200), Vocos(mels=80))
    size = min(len(found), len(expected)) - 4
    below = torchaudio.functional.melscale_fbanks(513, 0.0, 12_000.0, 100, 24_000, None, "htk")[340:].sum(dim=0) == 0
    difference = (found[4:size] - expected[4:size])[:, below]
    assert abs(difference.mean()) < 0.1 and difference.mean(dim=0)[3:].abs().max() < 0.35
    assert found[:, -5:].max() < -10  # nothing is known of what lies above 8 kHz


def test_pieces_of_vocos_with_their_reach_are_the_whole(tmp_path, monkeypatch):
    vocos(tmp_path)
    vocoder, mel = load_vocoder(tmp_path, 64), log_mel(torch.from_numpy(voiced(3.0)), 64, 300)
    whole = vocoder.speak(mel)
    monkeypatch.setattr(vocoder_module, "PIECE", 70)
    torch.testing.assert_close(vocoder.speak(mel), whole, atol=5e-4, rtol=0)


def test_what_is_no_vocos_of_log_mels_is_refused(tmp_path):
    codec = {**VOCOS["backbone"]["init_args"], "adanorm_num_embeddings": 4}
    vocos(tmp_path / "codec", {**VOCOS, "backbone": {**VOCOS["backbone"], "init_args": codec}})
    with pytest.raises(ConfigError, match="a VocosBackbone of log-mels with an ISTFTHead is"):
        load_vocoder(tmp_path / "codec", 80)
    vocos(tmp_path / "part", {**VOCOS, "head": {**VOCOS["head"], "init_args": {"n_fft": 1024}}})
    with pytest.raises(ConfigError, match="'hop_length' is missing"):
        load_vocoder(tmp_path / "part", 80)
    weights = vocos(tmp_path / "short")
    weights.pop("head.out.bias")
    save_file(weights, tmp_path / "short" / "model.safetensors")
    with pytest.raises(CheckpointError, match="head.out.bias"):
        load_vocoder(tmp_path / "short", 80)
    (tmp_path / "short" / "model.safetensors").rename(tmp_path / "short" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no model.safetensors; a pytorch_model.bin is a pickle"):
        load_vocoder(tmp_path / "short", 80)
