"""Text in pictures, by Tesseract (extra `ocr`)."""

from itertools import groupby

import pydantic
from PIL import Image

from mmpt.config import Schema
from mmpt.data.extra import need
from mmpt.errors import ConfigError, DataError

_LONGEST = 120
"""Seconds that a picture may take."""


class Ocr(Schema):
    """The text in a picture, read by Tesseract (tesseract-ocr/tesseract, LSTM) on this machine."""

    languages: tuple[str, ...] = pydantic.Field(default=("eng",), min_length=1)
    """Tesseract's names of the languages that may be in it."""
    min_confidence: float = pydantic.Field(default=60.0, ge=0, le=100)
    """A word of which it is less sure is left out."""
    min_words: int = pydantic.Field(default=2, ge=1)
    """A picture with fewer words has none: what is read in the pattern of a photograph."""
    form: str = "{text}"
    """How the text stands in the document."""

    @pydantic.field_validator("form")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value.count("{text}") != 1:
            raise ValueError("expected {text} once in it")
        return value

    def check(self) -> None:
        """Raise `ConfigError` where Tesseract, or one of the languages, is not installed."""
        tesseract = need("pytesseract", "ocr")
        try:
            known = tesseract.get_languages()
        except tesseract.TesseractNotFoundError:
            raise ConfigError(
                "ocr: the program tesseract is not installed: apt install tesseract-ocr, or brew install tesseract"
            ) from None
        missing = [name for name in self.languages if name not in known]
        if missing:
            raise ConfigError(f"ocr.languages: Tesseract has no {', '.join(missing)}, there are {', '.join(known)}")

    def read(self, picture: Image.Image) -> str:
        """The text of a picture, line by line; empty: there is none. Raises `DataError` where Tesseract fails on it."""
        tesseract = need("pytesseract", "ocr")
        try:
            found = tesseract.image_to_data(
                picture, lang="+".join(self.languages), output_type=tesseract.Output.DICT, timeout=_LONGEST
            )
        except (tesseract.TesseractError, RuntimeError) as problem:
            raise DataError(f"its text cannot be read ({problem})") from None
        words = [
            (place, word)
            for word, confidence, *place in zip(
                found["text"], found["conf"], found["block_num"], found["par_num"], found["line_num"], strict=True
            )
            if word.strip() and float(confidence) >= self.min_confidence
        ]
        lines = [" ".join(word for _, word in line) for _, line in groupby(words, key=lambda one: one[0])]
        return "\n".join(lines) if len(words) >= self.min_words else ""
