"""The small vocoder beside Griffin-Lim, both from the log-mels of recordings.

    python tokenizers/benches/vocoder.py [RUNS]

Trained by tokenizers/vocoder.yaml on spoken digits, on one core; tested on 60 strings of recordings that it never saw. Writes
tokenizers/results/vocoder.json.
"""

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import digits
import numpy as np
import torch
import yaml

from mmpt.evaluation.metrics.speech_tokenizer import mean_stoi, mel_distance
from mmpt.results import Figure, report
from mmpt.tokenizers.speech.features import log_mel, waveform
from mmpt.tokenizers.speech.vocoder import saved_vocoder

SAMPLE_RATE, HOP, TESTED = 16_000, 160, 60


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/vocoder")
    torch.set_num_threads(1)
    data = digits.strings(runs / "train", digits.TRAIN, 2000, 2, seed=0)
    test = digits.strings(runs / "test", digits.TEST, 300, 3, seed=1)
    spec = {**yaml.safe_load((digits.ROOT / "tokenizers" / "vocoder.yaml").read_text()), "data": [str(data)]}
    digits.train({runs / "run": spec}, result="vocoder")
    vocoder = saved_vocoder(runs / "run" / "vocoder")
    sounds = [samples[: len(samples) // HOP * HOP] for samples in digits.utterances(test)[0][:TESTED]]
    figures = [Figure("training, minutes", digits.training_seconds(runs / "run") / 60)]
    for name, speak in {"vocoder": vocoder.speak, "Griffin-Lim": waveform}.items():
        figures += [Figure(f"{name}: {key}", value) for key, value in measured(speak, sounds, vocoder.config.mels).items()]
    sys.exit(0 if report(figures, digits.RESULTS / "vocoder.json") else 1)


def measured(speak: Callable, sounds: Sequence[np.ndarray], mels: int) -> dict[str, float]:
    """What is left of `sounds` after their log-mel and `speak`, and the seconds for each second of speech."""
    spectra = [log_mel(torch.from_numpy(samples), mels, len(samples) // HOP) for samples in sounds]
    began = time.perf_counter()
    made = [speak(mel).numpy() for mel in spectra]
    seconds = time.perf_counter() - began
    return {
        "stoi": mean_stoi(sounds, made, SAMPLE_RATE),
        "mel_distance": float(np.mean([mel_distance(*pair) for pair in zip(sounds, made, strict=True)])),
        "real-time factor": seconds * SAMPLE_RATE / sum(map(len, sounds)),
    }


if __name__ == "__main__":
    main()
