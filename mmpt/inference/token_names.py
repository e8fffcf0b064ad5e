"""What each token is called, and which bytes of text it stands for."""

from functools import cached_property
from typing import TYPE_CHECKING

from transformers.convert_slow_tokenizer import bytes_to_unicode

from mmpt.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenNames:
    """Of one vocabulary."""

    def __init__(self, text: "PreTrainedTokenizerBase", vocabulary: Vocabulary) -> None:
        self._text, self._size = text, vocabulary.text_size
        self._added = vocabulary.added_tokens()

    def bytes_of(self, token: int) -> bytes | None:
        """Those of a token of text; None of special tokens and codes."""
        return self.text_bytes[token] if token < self._size else None

    def name(self, token: int) -> str:
        """The text of a token, or the name that a code or a special token has in an exported tokenizer (`<|image_00017|>`)."""
        if token >= self._size:
            return self._added[token - self._size]
        found = self.text_bytes[token]
        return self._pieces[token] if found is None else found.decode(errors="replace")

    @cached_property
    def text_bytes(self) -> list[bytes | None]:
        """Of each id of text."""
        special = {number for number, token in self._text.added_tokens_decoder.items() if token.special}
        added = {number: token.content.encode() for number, token in self._text.added_tokens_decoder.items()}
        found: list[bytes | None] = []
        for number, piece in enumerate(self._pieces):
            found.append(None if number in special else added.get(number) or self._bytes(piece))
        return found

    @cached_property
    def _pieces(self) -> list[str]:
        return [piece or "" for piece in self._text.convert_ids_to_tokens(list(range(self._size)))]

    @cached_property
    def _alphabet(self) -> dict[str, int] | None:
        """Each character of a byte-level vocabulary (Radford et al. 2019, "GPT-2") with its byte; None of another."""
        table = {character: byte for byte, character in bytes_to_unicode().items()}
        return table if all(one in table for piece in self._pieces[:1000] for one in piece) else None

    def _bytes(self, piece: str) -> bytes:
        table = self._alphabet
        if table is not None and all(one in table for one in piece):
            return bytes(table[one] for one in piece)
        if len(piece) == 6 and piece.startswith("<0x"):  # a byte of a SentencePiece vocabulary
            return bytes([int(piece[3:5], 16)])
        return piece.replace("\u2581", " ").encode()
