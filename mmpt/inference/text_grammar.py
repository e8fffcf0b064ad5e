"""Text held to a grammar while it is written (guided decoding, Willard and Louf 2023, arXiv:2307.09702), by llguidance
(guidance-ai/llguidance): beside the grammar of blocks, it says which tokens of text may come next and when the text may end."""

import importlib
import json
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np
import torch

from mmpt.errors import ConfigError, DataError
from mmpt.inference.token_names import TokenNames

_SEPARATED = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""One way to write a value: a model that may write spaces for ever sometimes does."""


class TextGrammars:
    """Makes a `TextGrammar` for each sequence, of one text tokenizer."""

    def __init__(self, names: TokenNames) -> None:
        self._names, self._lock = names, Lock()

    def json(self, schema: dict[str, Any]) -> str:
        """What `Settings.text_grammar` takes, of a JSON schema. Raises `DataError` where it is none that can be held to, and
        `ConfigError` where llguidance is not there."""
        try:
            grammar = self._library.LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=_SEPARATED)
        except ValueError as problem:
            raise DataError(f"no JSON schema that can be enforced ({_first_line(problem)})") from None
        self.check(grammar)
        return grammar

    def check(self, grammar: str) -> None:
        """Raises `DataError` where a text cannot be held to it."""
        problem = self._library.LLMatcher.validate_grammar(grammar, self._tokenizer)
        if problem:
            raise DataError(f"no JSON schema that can be enforced ({_first_line(problem)})")
        if not self.start(grammar).allowed().any():  # one that means itself, or what takes llguidance too long
            raise DataError("no JSON schema that can be enforced (no text of this model begins as it asks)")

    def start(self, grammar: str) -> "TextGrammar":
        """At the beginning of a text."""
        return TextGrammar(self._library.LLMatcher(self._tokenizer, grammar, log_level=0), len(self._names.text_bytes))

    @cached_property
    def _library(self) -> Any:
        try:
            return importlib.import_module("llguidance")
        except ModuleNotFoundError:
            raise ConfigError("a grammar for text needs llguidance (pip install mmpt[serve])") from None

    @property
    def _tokenizer(self) -> Any:
        with self._lock:  # a second of work, which several requests may ask for at once
            return self._read

    @cached_property
    def _read(self) -> Any:
        wrapper = importlib.import_module("llguidance._tokenizer").TokenizerWrapper
        return self._library.LLTokenizer(wrapper(_Tokens(self._names)))


class _Tokens:
    """The tokens of text as llguidance takes them, and one more behind them, which ends a text."""

    def __init__(self, names: TokenNames) -> None:
        self.tokens = [*(one or b"" for one in names.text_bytes), b"<|end of text|>"]
        self.eos_token_id, self.bos_token_id = len(self.tokens) - 1, None
        self.special_token_ids = [n for n, one in enumerate(names.text_bytes) if one is None] + [self.eos_token_id]

    def __call__(self, text: bytes) -> list[int]:
        """Asked for while it looks ahead, which is not made use of here."""
        singles = {one: number for number, one in enumerate(self.tokens) if len(one) == 1}
        return [singles[bytes([byte])] for byte in text if bytes([byte]) in singles]


class TextGrammar:
    """Where the text of one sequence stands."""

    def __init__(self, matcher: Any, size: int) -> None:
        self._matcher, self._size = matcher, size

    def allowed(self) -> torch.Tensor:
        """bool [ids of text]: which may come next."""
        wide = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return torch.from_numpy(np.unpackbits(wide, bitorder="little")[: self._size].astype(bool))

    def forbid(self, forbidden: torch.Tensor, end: int) -> None:
        """Also forbid in `forbidden` bool [V] the ids of text that may not come next, and `end` where the text may not end."""
        allowed = self.allowed()
        closed = bool(forbidden[end])
        allowed &= ~forbidden[: self._size].cpu()
        over = self._matcher.is_accepting() or not bool(allowed.any())  # a vocabulary may lack what the grammar asks for
        forbidden[: self._size] = ~allowed.to(forbidden.device)
        forbidden[end] = closed or not over

    def advance(self, token: int) -> None:
        """`token` of text comes next."""
        self._matcher.consume_token(token)


def _first_line(problem: object) -> str:
    return str(problem).strip().partition("\n")[0]
