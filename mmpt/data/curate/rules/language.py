"""Which language a document is in."""

from functools import lru_cache
from typing import Any

from mmpt.data.curate.rules import DocumentRule, Verdict
from mmpt.data.extra import need
from mmpt.document import Document, Speech, Text
from mmpt.errors import ConfigError


class Language(DocumentRule):
    """The language of a document's text and speech, as lingua finds it (github.com/pemistahl/lingua-py). Its confidence is kept
    as `language`."""

    keep: tuple[str, ...]
    """Codes (ISO 639-1) of the languages that stay."""
    among: tuple[str, ...] = ()
    """Codes of the languages between which it is decided; empty: all that lingua knows."""
    min_confidence: float = 0.5
    """A document of which lingua is less sure goes, too (0 to 1)."""

    def judge(self, document: Document) -> Verdict:
        text = "\n".join(part.text for part in document.parts if isinstance(part, Text | Speech))
        detected = _detector(self.among).compute_language_confidence_values(text) if text.strip() else []
        if not detected:
            return Verdict("no text to tell the language from")
        code, confidence = detected[0].language.iso_code_639_1.name.lower(), round(detected[0].value, 3)
        bad = code not in self.keep or confidence < self.min_confidence
        return Verdict(f"language {code}, confidence {confidence:.2f}" if bad else None, {"language": confidence})


@lru_cache(maxsize=2)
def _detector(codes: tuple[str, ...]) -> Any:
    """Loaded once in each process."""
    lingua = need("lingua")
    if not codes:
        return lingua.LanguageDetectorBuilder.from_all_languages().build()
    try:
        found = [getattr(lingua.IsoCode639_1, code.upper()) for code in codes]
    except AttributeError as problem:
        raise ConfigError(f"language: {problem}, expected codes such as en") from None
    return lingua.LanguageDetectorBuilder.from_iso_codes_639_1(*found).build()
