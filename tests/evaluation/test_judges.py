"""What others say of decoded sound: their figures, their bars, and what is said where they are not there."""

import sys

import numpy as np
import pytest

from mmpt.errors import ConfigError
from mmpt.evaluation.metrics import speech_tokenizer as metrics
from mmpt.evaluation.metrics.judges import JUDGES, dnsmos, pesq, voices
from mmpt.tokenizers.speech.config import SoundGates, SpeechConfig
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.text import train_text_tokenizer


def voiced(pitch: float, seconds: float = 2.0, formant: float = 700.0) -> np.ndarray:
    """Harmonics of a gliding pitch about a formant, in syllables."""
    time = np.arange(int(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.1 * np.sin(2 * np.pi * time))) / 16_000
    tones = sum(np.sin(k * phase) * np.exp(-((pitch * k - formant) ** 2) / 8e5) for k in range(1, int(7000 / pitch)))
    samples = tones * (np.sin(9 * time) > -0.5)
    return (0.3 * samples / np.abs(samples).max()).astype(np.float32)


def test_pesq_is_highest_of_a_sound_with_itself():
    pytest.importorskip("pesq")
    sound = voiced(120)
    noisy = (sound + np.random.default_rng(0).normal(0, 0.05, len(sound))).astype(np.float32)
    same, worse, short = pesq([sound, sound, sound[:4000]], [sound, noisy, sound[:4000]])
    assert same == pytest.approx(4.64, abs=0.01) and 1 <= worse < 3 and np.isnan(short)


def test_voices_are_compared_by_whose_they_are():
    pytest.importorskip("resemblyzer")
    found = voices([voiced(110), voiced(110, 1.5), voiced(260, formant=1100)])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2]


def test_dnsmos_hears_noise():
    pytest.importorskip("speechmos")
    sound = voiced(120)
    noise = np.random.default_rng(0).normal(0, 0.1, len(sound)).astype(np.float32)
    scores = dnsmos([sound, 2 * sound + noise])  # louder than full scale is no mistake
    assert min(scores) >= 1 and max(scores) <= 5 and len(scores) == 2


@pytest.mark.parametrize(("name", "package"), [("dnsmos", "speechmos"), ("speaker_similarity", "resemblyzer"), ("pesq", "pesq")])
def test_a_judge_that_is_not_installed_says_what_to_install(name, package, monkeypatch):
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"needs `pip install mmpt\[judges\]`"):
        JUDGES[name]([np.zeros(16_000, np.float32)], [np.zeros(16_000, np.float32)])


@pytest.fixture(scope="module")
def tokenizer() -> SpeechTokenizer:
    small = {"dim": 16, "heads": 2, "conv_blocks": 0, "layers_pooled": 1, "layers_after": 1, "text_layers": 1}
    decoder = {"dim": 16, "heads": 2, "layers": 1, "blocks": 1}
    shape = {"quantizer": {"kind": "fsq", "levels": [4, 4]}, "mels": 16, "window": 40}
    return SpeechTokenizer(SpeechConfig(**shape, encoder=small, decoder=decoder), train_text_tokenizer(["a b"], 260)).eval()


def test_a_reader_from_outside_takes_the_place_of_the_tokenizers_own(tokenizer, monkeypatch):
    sounds, texts, heard = [voiced(120), voiced(200, 1.0)], ["one two three", "four"], []
    monkeypatch.setitem(metrics.JUDGES, "dnsmos", lambda originals, decoded: [2.0, float("nan")])
    monkeypatch.setitem(metrics.JUDGES, "pesq", lambda originals, decoded: [1.0, 3.0])
    found = metrics.evaluate_speech_tokenizer(
        tokenizer, sounds, texts, lambda decoded: heard.extend(decoded) or ["one two", "four"], ["dnsmos", "pesq"]
    )
    figures = found.figures
    assert figures["reconstruction_wer"] == 0.25 and [len(sound) for sound in heard] == [32_000, 16_000]
    assert figures["reconstruction_wer_low"] == 0 and figures["reconstruction_wer_high"] == pytest.approx(1 / 3)
    assert figures["dnsmos"] == 2 and (figures["pesq"], figures["pesq_low"], figures["pesq_high"]) == (2, 1, 3)
    alone = metrics.evaluate_speech_tokenizer(tokenizer, sounds, texts).figures
    assert "reconstruction_wer_low" not in alone and "dnsmos" not in alone


def test_each_bar_is_a_gate_and_what_was_not_measured_is_said():
    gates = metrics.sound_gates({"reconstruction_wer": 0.2, "dnsmos": 2.9}, SoundGates(reconstruction_wer=0.1, dnsmos=2.5))
    assert [(gate.name, gate.ok) for gate in gates] == [("reconstruction_wer", False), ("dnsmos", True)]
    assert metrics.sound_gates({}, SoundGates(listener="openai/whisper-base")) == []
    with pytest.raises(ConfigError, match="speaker_similarity was not measured"):
        metrics.sound_gates({"dnsmos": 3.0}, SoundGates(speaker_similarity=0.5))
