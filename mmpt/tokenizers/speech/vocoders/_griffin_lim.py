"""The module of `GriffinLim`."""

import torch

from mmpt.tokenizers.speech.constants import HOP
from mmpt.tokenizers.speech.features import WINDOW, waveform
from mmpt.tokenizers.speech.vocoder import VocoderModule
from mmpt.tokenizers.speech.vocoders.griffin_lim import GriffinLim


class GriffinLimVocoder(VocoderModule[GriffinLim]):
    """Phases are made for the whole at once, and yet each depends on what is near alone: in an iteration a frame hears those that
    its window overlaps."""

    def __init__(self, config: GriffinLim):
        super().__init__()
        self.config = config

    @property
    def reach(self) -> int:
        return (WINDOW - 1) // HOP * (self.config.iterations + 1) + 1

    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        return waveform(mel, self.config.iterations)
