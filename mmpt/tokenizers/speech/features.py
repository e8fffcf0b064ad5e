"""Between a 16 kHz waveform and its log-mel spectrogram, both ways.

Analysis as Whisper's (Radford et al. 2022): Hann window of 25 ms every 10 ms, Slaney mel bands. The log has a fixed floor and a
fixed scale, so that a frame depends on its own 25 ms alone and never on how the audio was cut or padded.
"""

import functools
import math

import numpy as np
import torch
import torchaudio
from torch.nn import functional as F

from mmpt.modality import SAMPLE_RATE
from mmpt.tokenizers.speech.constants import HOP
from mmpt.tokenizers.speech.griffin_lim import griffin_lim

WINDOW = 400
FLOOR = 1e-7  # power of a mel band; below that of quiet recordings, which a higher one would cut off
SILENCE = -2.5  # a log-mel value at the floor
UNHEARD = 2e-3  # root mean square of 25 ms, −54 dB of full scale


@functools.cache
def mel_filters(mels: int, rate: int = SAMPLE_RATE) -> torch.Tensor:
    """Slaney-style triangular filters of equal area from 0 to rate / 2 Hz, [25 ms // 2 + 1, mels], as `librosa.filters.mel` has
    them."""
    with torch.inference_mode(False):  # whoever asks first: a training may ask next
        return torchaudio.functional.melscale_fbanks(rate // 80 + 1, 0.0, rate / 2, mels, rate, "slaney", "slaney")


def mel_power(samples: torch.Tensor, mels: int, rate: int = SAMPLE_RATE, mirrored: bool = False) -> torch.Tensor:
    """Power in each mel band [..., samples // hop + 1, mels] of `samples` [..., samples] at `rate` Hz; frame i is centred on
    sample i · hop, hop being 10 ms. Before the first sample there is silence, or the sound of after it, `mirrored`."""
    size, hop = rate // 40, rate // 100
    padded = F.pad(samples, (0 if mirrored else size // 2, size // 2))
    if mirrored:
        padded = torch.cat([samples[..., 1 : size // 2 + 1].flip(-1), padded], dim=-1)
    window = torch.hann_window(size, device=samples.device)
    spectrum = torch.stft(padded, size, hop, window=window, center=False, return_complex=True)
    return torch.view_as_real(spectrum).square().sum(dim=-1).transpose(-1, -2) @ mel_filters(mels, rate).to(samples.device)


def log_mel(samples: torch.Tensor, mels: int, frames: int) -> torch.Tensor:
    """The first `frames` frames of the log-mel spectrogram, [..., frames, mels], about −2.5 (silence) … 1.5 (loud).

    `samples` [..., any length] is taken to go on in silence.
    """
    return compress(mel_power(_up_to(samples, frames), mels)[..., :frames, :])


def whisper_log_mel(samples: torch.Tensor, mels: int, frames: int) -> torch.Tensor:
    """The same on the same scale as Whisper's feature extractor makes it: the sound is mirrored at its beginning, and the floor
    lies at a power of 1e-10, −4 here."""
    return compress(mel_power(_up_to(samples, frames), mels, mirrored=True)[..., :frames, :], 1e-10)


def _up_to(samples: torch.Tensor, frames: int) -> torch.Tensor:
    """`samples` [..., any length], going on in silence to at least so many frames."""
    return F.pad(samples, (0, max(0, frames * HOP - samples.shape[-1])))


def heard(samples: np.ndarray) -> bool:
    """Whether any 25 ms of a waveform (float32, −1 … 1) are louder than `UNHEARD`."""
    padded = np.pad(samples, (0, -len(samples) % WINDOW))
    return bool(np.square(padded.reshape(-1, WINDOW), dtype=np.float64).mean(axis=1).max() > UNHEARD**2)


def compress(power: torch.Tensor, floor: float = FLOOR) -> torch.Tensor:
    """(log10 of the power, at least `floor`, + 2) ÷ 2."""
    return (power.clamp_min(floor).log10() + 2) / 2


def expand(log: torch.Tensor) -> torch.Tensor:
    """The power again: the inverse of `compress`."""
    return 10 ** (log * 2 - 2)


def linear_power(log: torch.Tensor, updates: int = 30) -> torch.Tensor:
    """Power at each frequency [frames, WINDOW // 2 + 1] that has the log-mel `log` [frames, mels]: non-negative least squares by
    so many multiplicative `updates` of Lee and Seung (2001)."""
    filters, inverse = (part.to(log.device) for part in (mel_filters(log.shape[1]), _inverse_filters(log.shape[1])))
    power = expand(log)
    spectrum = (power @ inverse).clamp_min(1e-8)
    target, gram = power @ filters.t(), filters @ filters.t()
    # Each step keeps power non-negative and lowers the squared error; far quicker than an exact solver for every frame.
    for _ in range(updates):
        spectrum = spectrum * target / (spectrum @ gram).clamp_min(1e-12)
    return spectrum


def magnitudes(log: torch.Tensor, rate: int, window: int, hop: int) -> torch.Tensor:
    """Magnitudes [ceil(frames · HOP · rate ÷ 16,000 ÷ hop), window // 2 + 1] that another analysis, by a Hann window of `window`
    samples every `hop` samples at `rate` Hz, finds in what has the log-mel `log` [frames, mels]; frame j is centred on sample
    j · hop. Nothing is above 8 kHz.

    What lies below our floor stays there, and harmonics that 25 ms do not resolve stay unresolved.
    """
    power, step = linear_power(log), hop * SAMPLE_RATE / rate / HOP
    wanted = torch.arange(math.ceil(len(log) / step), device=log.device) * step
    left = wanted.long()  # our frame before each of theirs, which lies between two of ours
    share = (wanted - left)[:, None]
    power = torch.lerp(power[left], power[(left + 1).clamp_max(len(power) - 1)], share)
    # As noise has it: power grows with the window's length, and a magnitude's mean is √(π ÷ 4) of its root mean square.
    power = power * (rate * window / SAMPLE_RATE / WINDOW * math.pi / 4)
    bins = torch.arange(window // 2 + 1, device=log.device) * (rate / window * WINDOW / SAMPLE_RATE)  # in ours
    low = bins.long().clamp_max(WINDOW // 2 - 1)
    fine = torch.lerp(power[:, low], power[:, low + 1], bins - low)
    return torch.where(bins <= WINDOW // 2, fine, 0.0).clamp_min(0.0).sqrt()


def waveform(log: torch.Tensor, iterations: int = 32) -> torch.Tensor:
    """A waveform [frames · HOP] in −1 … 1 whose log-mel is near `log` [frames, mels].

    Magnitudes by `linear_power`, phases by Griffin-Lim with momentum (Perraudin et al. 2013) from zero phase: the same input
    gives the same samples.
    """
    # Three times as many change the sound by 0.02 dB, and take half as long again as all of this.
    spectrum = linear_power(log, 10)
    magnitude = torch.cat([spectrum, spectrum[-1:]])
    samples = griffin_lim(magnitude.sqrt(), _window().to(log.device), HOP, iterations)
    return samples.clamp(-1, 1)


@functools.cache
def _inverse_filters(mels: int) -> torch.Tensor:
    with torch.inference_mode(False):
        return torch.linalg.pinv(mel_filters(mels))


def _window() -> torch.Tensor:
    return torch.hann_window(WINDOW)
