"""What every speech encoder and every text decoder gives."""

from abc import abstractmethod
from typing import NamedTuple

import torch
from torch import nn

from mmpt.layers.masks import length_mask
from mmpt.tokenizers.quantized import Quantized, QuantizerModule
from mmpt.tokenizers.speech.windows import Context
from mmpt.tokenizers.terms import Term


class EncoderModule(nn.Module):
    """The module of an `Encoder`. In three steps, since each of them is also used alone: `states`, `quantize`, `read`."""

    quantizer: QuantizerModule

    @property
    @abstractmethod
    def context(self) -> Context:
        """How much audio around it a code depends on."""

    @abstractmethod
    def states(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors before the quantiser [B, C, quantizer.dim] of `mel` [B, C · frames_per_code, mels]; `lengths` [B] in codes."""

    def quantize(self, states: torch.Tensor, lengths: torch.Tensor) -> Quantized:
        """Codes of `states` [B, C, quantizer.dim]; a codebook learns only from positions inside `lengths` [B]."""
        return self.quantizer(states, length_mask(lengths, states.shape[1]))

    @abstractmethod
    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantised vectors [B, C, quantizer.dim] → each one alone [B, C, dim], and all in context for the text decoder."""


class TextDecoder(nn.Module):
    """Reads the text out of an encoder's states. `most_tokens`: of a text."""

    most_tokens: int

    @abstractmethod
    def losses(
        self, texts: list[list[int]], states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[Term, Term]:
        """Cross-entropy of each next token of `texts`, and a CTC loss for each token where there is one (else a count of 0).

        `states` and `alone` [B, C, dim]: the codes in context and each alone, of `lengths` [B]. Raises `DataError` where a text
        has more than `most_tokens`.
        """

    @abstractmethod
    def read(self, states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        """The most probable token at each step until the end token; at most two tokens for each code and four more."""


class Recognizer(NamedTuple):
    """Both, trained together."""

    encoder: EncoderModule
    reader: TextDecoder
