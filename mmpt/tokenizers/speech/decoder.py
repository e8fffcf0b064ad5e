"""Codes → log-mel → waveform: the coarse log-mel, what the flow draws from it, and the vocoder; each may be taken alone."""

from collections.abc import Sequence

import torch
from torch import nn

from mmpt.layers.masks import length_mask
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.flow import FlowDecoder
from mmpt.tokenizers.speech.mel_decoder import MelDecoder
from mmpt.tokenizers.speech.reference import ReferenceEncoder, statistics, stretches
from mmpt.tokenizers.speech.vocoder import VocoderModule
from mmpt.tokenizers.speech.vocoders.griffin_lim import GriffinLim
from mmpt.tokenizers.terms import Term


class SpeechDecoder(nn.Module):
    """`vocoder` is Griffin-Lim until one that was trained for itself is put there."""

    def __init__(self, config: SpeechConfig):
        super().__init__()
        self.config = config
        shape = config.decoder
        self.coarse = MelDecoder(config)
        self.reference = ReferenceEncoder(shape.reference, config.mels, shape.voice) if shape.reference else None
        self.flow = FlowDecoder(shape.flow, config.mels, shape.voice, shape.block is not None) if shape.flow else None
        self.vocoder: VocoderModule = GriffinLim().build()

    @property
    def reach(self) -> tuple[int, int]:
        """How many codes before and after it a code's frames depend on."""
        coarse, flow = self.coarse.reach, self.flow.reach if self.flow else (0, 0)
        before, after = (-(-sum(side) // self.config.frames_per_code) for side in zip(coarse, flow, strict=True))
        return before, after

    @property
    def voiced_by(self) -> int:
        """How many numbers a default voice is kept as."""
        return self.config.decoder.voice if self.reference else 2 * self.config.mels

    def kept_voice(self, mel: torch.Tensor) -> torch.Tensor:
        """What is kept of a voice, [B, voiced_by], of whole log-mels `mel` [B, T, mels]."""
        frames = torch.full((len(mel),), mel.shape[1], device=mel.device)
        if self.reference is None:
            return statistics(mel, length_mask(frames, mel.shape[1]))
        return self.reference(mel, length_mask(frames, mel.shape[1]))

    def voice(self, kept: torch.Tensor) -> torch.Tensor:
        """Voices [B, decoder.voice] of what `kept_voice` gives."""
        return self.coarse.voice(kept.to(self.coarse.from_voice.weight.dtype))

    def losses(self, states: torch.Tensor, lengths: torch.Tensor, target: torch.Tensor, with_flow: bool) -> dict[str, Term]:
        """Of `target` [B, T, mels] spoken in its own voice from quantised `states` [B, C, quantizer.dim] of `lengths` [B]. With a
        reference encoder, the stretch that the voice is taken of is not to be learned."""
        frames = lengths * self.config.frames_per_code
        counted = length_mask(frames, target.shape[1])
        if self.reference is None:
            voice = self.voice(statistics(target, counted))
        else:
            taken = stretches(frames, target.shape[1], self.reference.config)
            voice, counted = self.reference(target, taken), counted & ~taken
        coarse = self.coarse(states, lengths, voice)
        terms = {"mel": self.coarse.loss(coarse, counted, target)}
        if self.flow and with_flow:
            terms["flow"] = self.flow.loss(target, coarse.detach(), frames, voice.detach(), counted)
        return terms

    def mels(
        self,
        states: torch.Tensor,
        lengths: torch.Tensor,
        voice: torch.Tensor,
        starts: Sequence[int],
        prompt: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Log-mel [B, C · frames_per_code, mels] of `states` [B, C, quantizer.dim] in `voice` [B, V]. `starts` [B]: the positions
        of their first codes in what is spoken. `prompt` [B, P, mels]: the first frames, if they are known."""
        coarse = self.coarse(states, lengths, voice)
        if self.flow is None:
            return coarse
        per_code = self.config.frames_per_code
        return self.flow.sample(coarse, lengths * per_code, voice, [start * per_code for start in starts], prompt=prompt)

    def waveform(self, mel: torch.Tensor) -> torch.Tensor:
        """The waveform [T · vocoder.hop] in −1 … 1 of a log-mel [T, mels]."""
        return self.vocoder.speak(mel)
