"""The module of `GriffinLim`."""

import torch

from mmpt.tokenizers.speech.features import waveform
from mmpt.tokenizers.speech.vocoder import VocoderModule
from mmpt.tokenizers.speech.vocoders.griffin_lim import GriffinLim


class GriffinLimVocoder(VocoderModule[GriffinLim]):
    """Each sample depends on all frames: phases are made for the whole at once."""

    def __init__(self, config: GriffinLim):
        super().__init__()
        self.config = config

    @property
    def reach(self) -> None:
        return None

    def speak(self, mel: torch.Tensor) -> torch.Tensor:
        return waveform(mel, self.config.iterations)
