"""A small vocoder that is trained here."""

from typing import TYPE_CHECKING

import pydantic

from mmpt.tokenizers.speech.constants import HOP
from mmpt.tokenizers.speech.vocoders import Vocoder

if TYPE_CHECKING:
    from mmpt.tokenizers.speech.vocoders._istft import IstftVocoder


class Istft(Vocoder):
    """A network predicts a spectrum, magnitude and phase, and one inverse Fourier transform makes the waveform (Vocos, Siuzdak
    2023, arXiv:2306.00814). Trained on spectra of several resolutions (Parallel WaveGAN, Yamamoto et al. 2020, arXiv:1910.11480,
    eq. 5 to 7) without adversaries."""

    mels: int = pydantic.Field(default=80, ge=8)
    """Bands of the log-mel that is spoken."""
    dim: int = pydantic.Field(default=192, ge=8)
    """Values of a state of 10 ms."""
    blocks: int = pydantic.Field(default=6, ge=1)
    """Convolutional blocks at 100 Hz."""
    window: int = pydantic.Field(default=640, ge=2 * HOP, multiple_of=HOP)
    """Samples of each inverse Fourier transform, of which there is one every 10 ms."""
    crop: int = pydantic.Field(default=64, ge=8)
    """Frames of a training example."""

    @property
    def bands(self) -> int:
        return self.mels

    def build(self) -> "IstftVocoder":
        from mmpt.tokenizers.speech.vocoders._istft import IstftVocoder

        return IstftVocoder(self)
