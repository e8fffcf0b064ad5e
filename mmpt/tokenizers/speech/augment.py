"""Variation of log-mel spectrograms: speed, pitch, level, noise, hidden stretches. All on the spectrogram, so it costs little."""

import numpy as np
import torch
from torch.nn import functional as F

from mmpt.tokenizers.speech.config import SAMPLE_RATE, AugmentConfig
from mmpt.tokenizers.speech.features import SILENCE


def mel_centers(mels: int) -> np.ndarray:
    """Centre frequencies of the Slaney mel bands in Hz, [mels]: linear to 1 kHz, logarithmic above."""
    top = 15 + np.log(SAMPLE_RATE / 2 / 1000) / (np.log(6.4) / 27)
    scale = np.linspace(0, top, mels + 2)[1:-1]
    return np.where(scale < 15, scale * 200 / 3, 1000 * np.exp((scale - 15) * np.log(6.4) / 27))


def warp(mel: torch.Tensor, speed: float, pitch: float, frames: int) -> torch.Tensor:
    """`mel` [T, M] played `speed` times as fast with all frequencies `pitch` times as high, cut or filled up to [frames, M]."""
    centers = mel_centers(mel.shape[1])
    bands = np.interp(centers / pitch, centers, np.arange(mel.shape[1]))
    times = np.arange(frames) * speed
    grid = np.empty((frames, len(bands), 2), dtype=np.float32)  # −1 … 1 from the first to the last value of each axis
    grid[..., 0] = 2 * bands / (len(bands) - 1) - 1
    grid[..., 1] = 2 * times[:, None] / (len(mel) - 1) - 1
    grid = torch.from_numpy(grid)
    warped = F.grid_sample(mel[None, None], grid[None], mode="bilinear", padding_mode="border", align_corners=True)[0, 0]
    warped[times > len(mel) - 1] = SILENCE
    return warped


def disturb(mel: torch.Tensor, config: AugmentConfig, random: np.random.Generator) -> torch.Tensor:
    """`mel` [T, M] at another level, perhaps with noise, with stretches of time and bands hidden behind its mean."""
    frames, mels = mel.shape
    mel = (mel + random.uniform(-config.gain, config.gain) / 20).clamp_min(SILENCE)
    if random.random() < config.noise:
        level = float(mel.mean(dim=1).max()) - random.uniform(5, 30) / 20
        tilt = np.linspace(1, -1, mels) * random.uniform(-0.3, 0.5)
        noise = level + tilt + random.normal(0, 0.15, (frames, mels))
        powers = 2 * np.log(10)
        mel = torch.logaddexp(mel * powers, torch.from_numpy(noise.astype(np.float32)) * powers) / powers
    else:
        mel = mel.clone()
    hidden = mel.mean()
    for _ in range(2):
        width = int(random.integers(config.time_mask + 1))
        place = int(random.integers(max(1, frames - width + 1)))
        mel[place : place + width] = hidden
        width = int(random.integers(config.mel_mask + 1))
        place = int(random.integers(mels - width + 1))
        mel[:, place : place + width] = hidden
    return mel
