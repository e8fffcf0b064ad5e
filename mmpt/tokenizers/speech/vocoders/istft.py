"""A small vocoder that is trained here."""

from typing import TYPE_CHECKING, Literal

import pydantic

from mmpt.tokenizers.speech.constants import FRAME_RATE, HOP
from mmpt.tokenizers.speech.vocoders import Vocoder

if TYPE_CHECKING:
    from mmpt.tokenizers.speech.vocoders._istft import IstftVocoder


class Istft(Vocoder):
    """A network predicts a spectrum, magnitude and phase, and one inverse Fourier transform makes the waveform (Vocos, Siuzdak
    2023, arXiv:2306.00814). Trained on spectra of several resolutions (Parallel WaveGAN, Yamamoto et al. 2020, arXiv:1910.11480,
    eq. 5 to 7), and, where they are asked for, against adversaries (HiFi-GAN, Kong et al. 2020, arXiv:2010.05646)."""

    mels: int = pydantic.Field(default=80, ge=8)
    """Bands of the log-mel that is spoken."""
    dim: int = pydantic.Field(default=192, ge=8)
    """Values of a state of 10 ms."""
    blocks: int = pydantic.Field(default=6, ge=1)
    """Convolutional blocks at 100 Hz."""
    rate: Literal[16000, 24000] = 16000
    """Hz of the sound. Of 24 kHz, what lies above 8 kHz is not in the log-mel: it is learned from what usually goes with it."""
    window: int = pydantic.Field(default=4 * HOP, ge=2)
    """Samples of each inverse Fourier transform, of which there is one every 10 ms: a multiple of those, two at least."""
    crop: int = pydantic.Field(default=64, ge=8)
    """Frames of a training example."""

    @pydantic.model_validator(mode="after")
    def _whole_hops(self) -> "Istft":
        hop = self.rate // FRAME_RATE
        if self.window % hop or self.window < 2 * hop:
            raise ValueError(f"window is {self.window}, expected a multiple of the {hop} samples of 10 ms, two of them at least")
        return self

    @property
    def bands(self) -> int:
        return self.mels

    @property
    def sound_rate(self) -> int:
        return self.rate

    def build(self) -> "IstftVocoder":
        from mmpt.tokenizers.speech.vocoders._istft import IstftVocoder

        return IstftVocoder(self)
