"""The token grammar as a mask over the logits, so that every generated sequence is well-formed.

text* ( <|image|> code^N <|/image|> | <|speech|> code+ <|/speech|> | text )* <|end|>
"""

from collections.abc import Collection

import torch

from mmpt.vocabulary import Vocabulary


class Grammar:
    """Which ids may follow in each state, as boolean rows over the vocabulary: a Hugging Face `LogitsProcessor`.

    `outputs` limits what may be generated: any of "text", "image", "speech". A sequence holds at most `max_parts` pictures and
    utterances together, and its last room is kept for closing: with `room` ids left, a block is only opened if it fits.
    """

    def __init__(self, vocabulary: Vocabulary, prompt_length: int, room: int, outputs: Collection[str], max_parts: int = 8):
        self.vocabulary = vocabulary
        self.prompt_length = prompt_length
        self.room = room
        self.max_parts = max_parts
        self.outputs = frozenset(outputs)
        self.image_start, self.image_end = vocabulary.special("<|image|>"), vocabulary.special("<|/image|>")
        self.speech_start, self.speech_end = vocabulary.special("<|speech|>"), vocabulary.special("<|/speech|>")
        self.end = vocabulary.special("<|end|>")
        self.ranges = vocabulary.ranges()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores [rows, vocabulary] with −inf for every id that may not follow `input_ids` [rows, length]."""
        allowed = torch.stack([self.allowed(row) for row in input_ids[:, self.prompt_length :].tolist()]).to(scores.device)
        return scores.masked_fill(~allowed, float("-inf"))

    def allowed(self, generated: list[int]) -> torch.Tensor:
        """Boolean [vocabulary]: the ids that may follow what was generated so far."""
        mask = torch.zeros(self.vocabulary.size, dtype=torch.bool)
        if self.end in generated:
            mask[self.end] = True
            return mask
        left = self.room - len(generated)
        opened = max((i for i, token in enumerate(generated) if token in (self.image_start, self.speech_start)), default=None)
        if opened is not None and generated[opened] == self.image_start and self.image_end not in generated[opened:]:
            if len(generated) - opened - 1 < self.vocabulary.codes_per_image:
                self._allow(mask, "image")
            else:
                mask[self.image_end] = True
        elif opened is not None and generated[opened] == self.speech_start and self.speech_end not in generated[opened:]:
            if left > 2:
                self._allow(mask, "speech")
            mask[self.speech_end] = len(generated) - opened > 1  # an utterance holds at least one code
        else:
            self._between_blocks(mask, generated, left)
        return mask

    def _between_blocks(self, mask: torch.Tensor, generated: list[int], left: int) -> None:
        mask[self.end] = bool(generated)
        parts = sum(token in (self.image_start, self.speech_start) for token in generated)
        if left > 1 and "text" in self.outputs:
            self._allow(mask, "text")
        if parts < self.max_parts:
            mask[self.image_start] = "image" in self.outputs and left >= self.vocabulary.codes_per_image + 3
            mask[self.speech_start] = "speech" in self.outputs and left >= 4
        if not mask.any():
            mask[self.end] = True

    def _allow(self, mask: torch.Tensor, modality: str) -> None:
        first, last = self.ranges[modality]
        mask[first:last] = True
