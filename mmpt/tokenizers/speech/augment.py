"""Variation of log-mel spectrograms: speed, pitch, level, colour, room, noise, hidden stretches. On the spectrogram, so it costs
little."""

import numpy as np
import torch
from torch.nn import functional as F

from mmpt.modality import SAMPLE_RATE
from mmpt.tokenizers.speech.config import AugmentConfig
from mmpt.tokenizers.speech.constants import HOP
from mmpt.tokenizers.speech.features import SILENCE, compress, expand


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
    warped[torch.from_numpy(times > len(mel) - 1)] = SILENCE
    return warped


def reverberate(mel: torch.Tensor, seconds: float, level: float) -> torch.Tensor:
    """`mel` [T, M] with a diffuse tail: in each band the power of a frame is followed by an exponential decay that falls by 60 dB
    in `seconds` (Polack's model of late reverberation, on powers) and begins `level` dB below it."""
    length = max(2, int(seconds * SAMPLE_RATE / HOP))
    decay = 10 ** (-6 * torch.arange(1, length + 1) / length)
    tail = torch.cat([torch.ones(1), 10 ** (level / 10) * decay])
    power = expand(mel).t()[:, None]
    return compress(F.conv1d(F.pad(power, (length, 0)), tail.flip(0)[None, None])[:, 0].t())


def disturb(mel: torch.Tensor, config: AugmentConfig, random: np.random.Generator) -> torch.Tensor:
    """`mel` [T, M] at another level and colour, perhaps in a room and in noise, with stretches of time and bands hidden behind
    its mean."""
    frames, mels = mel.shape
    if random.random() < config.reverb:
        mel = reverberate(mel, random.uniform(0.1, 1.0) * config.reverb_time, random.uniform(-20, -6))
    slope = torch.linspace(-0.5, 0.5, mels) * float(random.uniform(-config.tilt, config.tilt))
    mel = (mel + (random.uniform(-config.gain, config.gain) + slope) / 20).clamp_min(SILENCE)
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
        start = int(random.integers(max(1, frames - width + 1)))
        mel[start : start + width] = hidden
        width = int(random.integers(config.mel_mask + 1))
        start = int(random.integers(mels - width + 1))
        mel[:, start : start + width] = hidden
    return mel
