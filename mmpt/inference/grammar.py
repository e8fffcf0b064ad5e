"""The token grammar: which ids may follow, so that every generated sequence is well-formed.

    free:      text* ( <|image|> code^N <|/image|> | <|speech|> code+ <|/speech|> | text )* <|end|>
    alternate: ( text^T <|speech|> code^S <|/speech|> )* text* <|speech|> code+ <|/speech|> <|end|>

Speech of several codebooks comes in whole frames, its codes in the order of `mmpt.codebooks`; a picture of several comes codebook
by codebook.

Each sequence has a `Grammar` that follows it token by token; what may come next is a set of names, for which `Masks` has the ids.
"""

import torch

from mmpt.codebooks import Turns
from mmpt.errors import DataError
from mmpt.inference.settings import Settings
from mmpt.modality import Medium
from mmpt.vocabulary import Vocabulary

Allowed = frozenset[str]
"""Names of ranges (`text`, `image`, `speech`, and of their codebooks `image 0`, `speech 0`, `speech 1`, …) and of special tokens
(`<|end|>`, …)."""


class Grammar:
    """Where one sequence stands. Its last room is kept for closing: a block is only opened if it fits, and only of a kind for
    which the vocabulary has codes."""

    def __init__(self, vocabulary: Vocabulary, settings: Settings, end: int | None = None) -> None:
        """`end`: the id of the text that stands for `<|end|>`, where a chat template ends turns by one."""
        self.end = vocabulary.special("<|end|>") if end is None else end
        self._vocabulary, self._settings, self._alternate = vocabulary, settings, settings.alternate
        self._left = settings.max_new_tokens
        self._inside: Medium | None = None
        self._count = 0  # codes in the open block, or tokens of text since the last one
        self._parts, self._written, self._last = 0, False, False
        self.finished = False
        self._codebooks = vocabulary.speech_codebooks
        self._turns = self._new_turns()
        codes = {"image": vocabulary.image_codes, "speech": vocabulary.speech_codes}
        self._outputs = {name for name in settings.outputs if name == "text" or codes[name]}

    def allowed(self) -> Allowed:
        """What may come next; never empty."""
        if self.finished:
            return frozenset({"<|end|>"})
        if self._inside == "image":
            return frozenset({self._in_image()})
        if self._inside == "speech":
            return frozenset(self._in_speech())
        found = self._alternating(*self._alternate) if self._alternate else self._between_blocks()
        return frozenset(found or {"<|end|>"})

    def advance(self, token: int) -> None:
        """`token` comes next."""
        name = self.name(token)
        self._left -= 1
        self._written = True
        if name == "<|end|>":
            self.finished = True
        elif name in ("<|image|>", "<|speech|>"):
            # Speech before the text is full: there is no more text, and this block is the last.
            self._last = self._alternate is not None and self._count < self._alternate[0]
            self._inside, self._count = ("image" if name == "<|image|>" else "speech"), 0
            self._turns = self._new_turns()
            self._parts += 1
        elif name in ("<|/image|>", "<|/speech|>"):
            self._inside, self._count = None, 0
        else:
            self._count += 1
            if self._inside == "speech":
                self._turns.advance(self._vocabulary.codebook_of(token))
        self.finished |= self._left == 0

    @property
    def inside(self) -> Medium | None:
        """The kind of the open block."""
        return self._inside

    def name(self, token: int) -> str:
        """The range of a token, or its own name where it is special."""
        if token == self.end:
            return "<|end|>"
        first, last = self._vocabulary.ranges()["special"]
        if first <= token < last:
            return self._vocabulary.special_name(token)
        return "text" if token < first else "image" if token < self._vocabulary.speech_offset else "speech"

    def _in_image(self) -> str:
        codes, books = self._vocabulary.codes_per_image, self._vocabulary.image_codebooks
        if self._count == codes:
            return "<|/image|>"
        return "image" if books == 1 else f"image {self._count * books // codes}"

    def _in_speech(self) -> set[str]:
        turns, fixed = self._turns, self._alternate is not None and not self._last
        # Two tokens are kept: for `<|/speech|>` and `<|end|>`. Codebook 0 begins a frame, which must fit whole.
        room = self._alternate[1] - self._count if fixed and self._alternate else self._left - 2
        fits = room >= turns.missing + self._codebooks
        next_ones = [codebook for codebook in turns.allowed() if codebook or fits]
        if fixed and next_ones:  # so many codes, no fewer
            return {self._code(next_ones[0])}
        return {*map(self._code, next_ones), *(["<|/speech|>"] if turns.whole else [])}

    def _code(self, codebook: int) -> str:
        return "speech" if self._codebooks == 1 else f"speech {codebook}"

    def _new_turns(self) -> Turns:
        return Turns(self._vocabulary.speech_codebooks, self._vocabulary.speech_layout)

    def _between_blocks(self) -> set[str]:
        found = {"<|end|>"} if self._written else set()
        if self._left > 1 and "text" in self._outputs:
            found.add("text")
        if self._parts < self._settings.max_parts:
            # A block is opened only where it fits whole, its two marks and `<|end|>` included; speech needs one frame at least.
            if "image" in self._outputs and self._left >= self._vocabulary.codes_per_image + 3:
                found.add("<|image|>")
            if "speech" in self._outputs and self._left >= self._codebooks + 3:
                found.add("<|speech|>")
        return found

    def _alternating(self, text: int, speech: int) -> set[str]:
        if self._last:
            return {"<|end|>"}
        found = set()
        if self._count < text and self._left > 1:
            found.add("text")
        # Speech before the text is full says that the text is over; what is left of the speech then comes in one block.
        if self._left >= (speech if self._count == text else self._codebooks) + 3:
            found.add("<|speech|>")
        return found


def check_alternate(vocabulary: Vocabulary, settings: Settings) -> None:
    """Raise `DataError` where text and speech in turn would cut a frame of several codebooks."""
    if settings.alternate and settings.alternate[1] % vocabulary.speech_codebooks:
        raise DataError(
            f"alternate: {settings.alternate[1]} codes of speech in turn, expected a multiple of "
            f"the {vocabulary.speech_codebooks} codebooks of this model's speech"
        )


class Masks:
    """For each set of names and each id that ends a sequence, which ids are not allowed."""

    def __init__(self, vocabulary: Vocabulary, device: torch.device) -> None:
        self._vocabulary, self._device = vocabulary, device
        self._found: dict[tuple[Allowed, int], torch.Tensor] = {}

    def forbidden(self, allowed: Allowed, end: int | None = None) -> torch.Tensor:
        """bool [vocabulary]. `end`: that of the grammar, None: `<|end|>`."""
        end = self._vocabulary.special("<|end|>") if end is None else end
        # A few dozen sets occur in all: each mask is made once and stays on the device.
        if (allowed, end) not in self._found:
            mask = torch.ones(self._vocabulary.size, dtype=torch.bool)
            ranges = self._vocabulary.ranges()
            ranges |= {f"speech {n}": self._vocabulary.codebook_range(n) for n in range(self._vocabulary.speech_codebooks)}
            each = self._vocabulary.codes_per_image // self._vocabulary.image_codebooks
            ranges |= {
                f"image {n}": self._vocabulary.image_range(n * each) for n in range(self._vocabulary.image_codebooks) if each
            }
            for name in allowed - {"<|end|>"}:
                first, last = ranges.get(name) or (self._vocabulary.special(name), self._vocabulary.special(name) + 1)
                mask[first:last] = False
            mask[end] = "<|end|>" not in allowed  # it may lie among the ids of text
            self._found[allowed, end] = mask.to(self._device)
        return self._found[allowed, end]
