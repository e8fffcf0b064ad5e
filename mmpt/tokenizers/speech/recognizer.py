"""What every speech encoder and every text decoder gives."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import nn

from mmpt.layers.masks import length_mask
from mmpt.tokenizers.quantized import Quantized, QuantizerModule
from mmpt.tokenizers.speech.lessons import Lesson
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
    def hear(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """What is made of `mel` [B, C · frames_per_code, mels] by layers that a fixed encoder does not train, `lengths` [B] in
        codes: [B, C, any], or the mel itself."""

    def hear_whole(self, mel: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of a fixed encoder: `hear` with what `unquantised` takes of it, and what the text decoder reads where there is no
        pooling and no quantiser, [B, F, dim], F for each [B]. Raises `TypeError` of any other."""
        raise TypeError(f"{type(self).__name__} is never fixed")

    @abstractmethod
    def before_code(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors before the quantiser [B, C, quantizer.dim] of what was heard."""

    def states(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors before the quantiser [B, C, quantizer.dim] of `mel` [B, C · frames_per_code, mels]; `lengths` [B] in codes."""
        return self.before_code(self.hear(mel, lengths), lengths)

    def states_beyond(self, mel: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same vectors with those of the silence that is heard behind each clip, and how many there are of each: what text
        is read from where no code stands between."""
        return self.states(mel, lengths), lengths

    def begin(self, heard: list[torch.Tensor]) -> None:
        """Begin from what a fixed encoder hears of utterances, each [C, any], before the first step."""

    def hear_silence(self, mels: Iterable[torch.Tensor]) -> None:
        """Learn of a few utterances, each a log-mel [T, mels], what is heard behind them, where the text decoder is given that.
        Raises `DataError` where there is none."""

    def distances(
        self, hidden: torch.Tensor, alone: torch.Tensor, context: torch.Tensor, lengths: torch.Tensor
    ) -> dict[str, Term]:
        """How far what `read` gave of the codes of `hidden` is from what was heard without them; of `hear_whole` alone."""
        return {}

    def quantize(self, states: torch.Tensor, lengths: torch.Tensor) -> Quantized:
        """Codes of `states` [B, C, quantizer.dim]; a codebook learns only from positions inside `lengths` [B]."""
        return self.quantizer(states, length_mask(lengths, states.shape[1]))

    @abstractmethod
    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Quantised vectors [B, C, quantizer.dim] → what stands for each [B, C, dim], by itself or, where the encoder restores
        it, by those around it too; all in context for the text decoder, [B, C or more, dim]; and how many these are, [B]."""


class TextDecoder(nn.Module):
    """Reads the text out of an encoder's states. `most_tokens`: of a text."""

    most_tokens: int

    @abstractmethod
    def losses(
        self,
        texts: list[list[int]],
        states: torch.Tensor,
        alone: torch.Tensor,
        lengths: torch.Tensor,
        lessons: Sequence[Lesson] = (),
    ) -> tuple[Term, Term]:
        """Cross-entropy of each next token of `texts`, and a CTC loss for each token where there is one (else a count of 0).

        `states` and `alone` [B, C, dim]: the codes in context and each alone, of `lengths` [B]. With `lessons`, one for each,
        these are learned and not the texts. Raises `DataError` where a text has more than `most_tokens`.
        """

    def lesson(self, states: torch.Tensor, lengths: torch.Tensor) -> Lesson:
        """What is read of `states` [1, F, dim], F being `lengths` [1]. Raises `TypeError` of one that gives no lessons."""
        raise TypeError(f"{type(self).__name__} gives no lessons")

    @abstractmethod
    def read(self, states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        """The most probable token at each step until the end token; at most two tokens for each code and four more."""


class Recognizer(NamedTuple):
    """Both, trained together."""

    encoder: EncoderModule
    reader: TextDecoder
