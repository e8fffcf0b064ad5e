"""Rules of a filter: each says why a part or a document is to go, or nothing. Scores that it computes are kept."""

import math
import re
from collections import Counter
from functools import lru_cache
from typing import Annotated, Literal

import pydantic

from mmpt.config import Schema
from mmpt.data.extra import need
from mmpt.document import Document, Image, Part, Speech, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_image, decode_speech

Verdict = tuple[str | None, dict[str, float]]
"""(why it goes, None: it stays; scores by name)."""


class PartRule(Schema):
    """A rule over single parts. `drop`: the part alone, or its whole document."""

    drop: Literal["part", "document"] = "part"


class ImageSize(PartRule):
    """Shorter side of at least `min_side` pixels, longer of at most `max_side`, at least `min_bytes`."""

    rule: Literal["image_size"]
    min_side: int = 0
    max_side: int | None = None
    min_bytes: int = 0


class ImageAspect(PartRule):
    """Width / height between `min` and `max` (0.5 to 2 in mmc4)."""

    rule: Literal["image_aspect"]
    min: float = 0.5
    max: float = 2.0


class TextLength(PartRule):
    """Characters of a text part."""

    rule: Literal["text_length"]
    min: int = 1
    max: int | None = None


class TextPattern(PartRule):
    """A text part in which the regular expression is found goes."""

    rule: Literal["text_pattern"]
    pattern: str

    @pydantic.field_validator("pattern")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        try:
            return re.compile(value).pattern
        except re.error as problem:
            raise ValueError(f"no regular expression ({problem})") from None


class Repetition(PartRule):
    """Share of a text's characters in repeated lines, and in its most frequent n-gram of words: Rae et al. 2021 (Gopher),
    table A1."""

    rule: Literal["repetition"]
    max_duplicate_lines: float = 0.3
    ngram: int = pydantic.Field(2, ge=1)
    max_top_ngram: float = 0.2
    min_words: int = 20


class SpeechDuration(PartRule):
    """Seconds of an utterance."""

    rule: Literal["speech_duration"]
    min: float = 0.0
    max: float = 30.0


class SpeechActivity(PartRule):
    """Share of an utterance in which silero-vad hears speech."""

    rule: Literal["speech_activity"]
    min: float = 0.3


class ClipSimilarity(PartRule):
    """Cosine of a picture and its alternative text, else the text nearest to it, under an open_clip model.

    `pretrained` is one of open_clip's tags or a checkpoint's path. The score is kept as `clip`.
    """

    rule: Literal["clip_similarity"]
    model: str = "ViT-B-32"
    pretrained: str = "laion2b_s34b_b79k"
    min: float = 0.2


class CaptionPerplexity(PartRule):
    """Perplexity of a text under a causal LM of transformers, after POINTS (Liu et al. 2024), which keeps the lowest 20 %.

    The score is kept as `perplexity`, so a first pass with a high `max` shows where a share would cut.
    """

    rule: Literal["caption_perplexity"]
    model: str
    max: float
    max_tokens: int = pydantic.Field(512, ge=2)


class ImageCount(Schema):
    """Pictures of a document."""

    rule: Literal["image_count"]
    min: int = 0
    max: int | None = None


class TextLanguage(Schema):
    """The language of a document's text, as lingua finds it among `among` (ISO 639-1, all by default), must be in `keep`."""

    rule: Literal["language"]
    keep: tuple[str, ...]
    among: tuple[str, ...] = ()
    min_confidence: float = 0.5


class License(Schema):
    """The document's `license` must be one of these."""

    rule: Literal["license"]
    keep: tuple[str, ...]


PART_RULES = (
    ImageSize
    | ImageAspect
    | TextLength
    | TextPattern
    | Repetition
    | SpeechDuration
    | SpeechActivity
    | ClipSimilarity
    | CaptionPerplexity
)
Rule = Annotated[PART_RULES | ImageCount | TextLanguage | License, pydantic.Field(discriminator="rule")]


def judge_part(rule: PART_RULES, document: Document, place: int) -> Verdict:
    """What a rule says of the part number `place`; parts of other types stay."""
    part = document.parts[place]
    kind, check = _PARTS[rule.rule]
    return check(rule, part, document, place) if isinstance(part, kind) else (None, {})


def judge_document(rule: ImageCount | TextLanguage | License, document: Document) -> Verdict:
    """What a rule says of a document."""
    return _DOCUMENTS[rule.rule](rule, document)


def nearest_text(document: Document, place: int) -> str:
    """The text of a picture: its alternative text, else the nearest text part, of two as near the following."""
    part = document.parts[place]
    if isinstance(part, Image) and part.alt.strip():
        return part.alt
    texts = [other for other, one in enumerate(document.parts) if isinstance(one, Text) and one.text.strip()]
    nearest = min(texts, key=lambda other: (abs(other - place), other < place), default=None)
    return "" if nearest is None else document.parts[nearest].text


def _image_size(rule: ImageSize, part: Image, *_: object) -> Verdict:
    short, long = sorted((part.width, part.height))
    if short < rule.min_side or (rule.max_side is not None and long > rule.max_side):
        return f"{part.width} x {part.height} pixels", {}
    return (f"{len(part.data)} bytes", {}) if len(part.data) < rule.min_bytes else (None, {})


def _image_aspect(rule: ImageAspect, part: Image, *_: object) -> Verdict:
    aspect = part.width / part.height
    return (None if rule.min <= aspect <= rule.max else f"aspect {aspect:.2f}"), {}


def _text_length(rule: TextLength, part: Text, *_: object) -> Verdict:
    length = len(part.text)
    return (None if rule.min <= length and (rule.max is None or length <= rule.max) else f"{length} characters"), {}


def _text_pattern(rule: TextPattern, part: Text, *_: object) -> Verdict:
    found = re.search(rule.pattern, part.text)
    return (f"{found[0][:80]!r} is in it" if found else None), {}


def _repetition(rule: Repetition, part: Text, *_: object) -> Verdict:
    lines = [line.strip() for line in part.text.splitlines() if line.strip()]
    words = part.text.split()
    if len(words) < rule.min_words:
        return None, {}
    counts = Counter(lines)
    again = sum((count - 1) * len(line) for line, count in counts.items()) / sum(map(len, lines))
    grams = Counter(tuple(words[i : i + rule.ngram]) for i in range(len(words) - rule.ngram + 1))
    gram, count = max(grams.items(), key=lambda item: item[1] * sum(map(len, item[0])))
    top = count * sum(map(len, gram)) / sum(map(len, words)) if count > 1 else 0.0
    if again > rule.max_duplicate_lines:
        return f"{again:.0%} of it in repeated lines", {}
    return (f"{top:.0%} of it is {' '.join(gram)!r}" if top > rule.max_top_ngram else None), {}


def _speech_duration(rule: SpeechDuration, part: Speech, *_: object) -> Verdict:
    return (None if rule.min <= part.duration <= rule.max else f"{part.duration:.2f} s"), {}


def _speech_activity(rule: SpeechActivity, part: Speech, *_: object) -> Verdict:
    import torch

    model, timestamps = _vad()
    samples = torch.from_numpy(decode_speech(part.data, 16_000))
    model.reset_states()
    spoken = sum(stretch["end"] - stretch["start"] for stretch in timestamps(samples, model, sampling_rate=16_000))
    share = round(spoken / len(samples), 4)
    return (None if share >= rule.min else f"speech in {share:.0%} of it"), {"speech_activity": share}


def _clip_similarity(rule: ClipSimilarity, part: Image, document: Document, place: int) -> Verdict:
    import torch

    text = nearest_text(document, place)
    if not text:
        return "no text to compare it with", {}
    model, transform, tokenizer = _clip(rule.model, rule.pretrained)
    with torch.inference_mode():
        image = model.encode_image(transform(decode_image(part.data))[None], normalize=True)
        score = round(float((image @ model.encode_text(tokenizer([text]), normalize=True).T).item()), 4)
    return (None if score >= rule.min else f"similarity {score:.3f} to {text[:60]!r}"), {"clip": score}


def _caption_perplexity(rule: CaptionPerplexity, part: Text, *_: object) -> Verdict:
    import torch

    model, tokenizer = _language_model(rule.model)
    ids = tokenizer(part.text, return_tensors="pt", truncation=True, max_length=rule.max_tokens)["input_ids"]
    if ids.shape[1] < 2:
        return None, {}
    with torch.inference_mode():
        perplexity = round(math.exp(float(model(input_ids=ids, labels=ids).loss)), 3)
    return (None if perplexity <= rule.max else f"perplexity {perplexity:,.1f}"), {"perplexity": perplexity}


def _image_count(rule: ImageCount, document: Document) -> Verdict:
    count = sum(isinstance(part, Image) for part in document.parts)
    return (None if rule.min <= count and (rule.max is None or count <= rule.max) else f"{count} pictures"), {}


def _language(rule: TextLanguage, document: Document) -> Verdict:
    text = "\n".join(part.text for part in document.parts if isinstance(part, Text | Speech))
    detected = _detector(rule.among).compute_language_confidence_values(text) if text.strip() else []
    if not detected:
        return "no text to tell the language from", {}
    code, confidence = detected[0].language.iso_code_639_1.name.lower(), round(detected[0].value, 3)
    bad = code not in rule.keep or confidence < rule.min_confidence
    return (f"language {code}, confidence {confidence:.2f}" if bad else None), {"language": confidence}


def _license(rule: License, document: Document) -> Verdict:
    found = str(document.meta.get("license", ""))
    return (None if found in rule.keep else f"license {found!r}"), {}


@lru_cache(maxsize=1)
def _vad() -> tuple:
    module = need("silero_vad")
    return module.load_silero_vad(), module.get_speech_timestamps


@lru_cache(maxsize=2)
def _clip(name: str, pretrained: str) -> tuple:
    import open_clip

    try:
        model, _, transform = open_clip.create_model_and_transforms(name, pretrained=pretrained)
    except (RuntimeError, OSError) as problem:
        raise ConfigError(f"clip_similarity: {name} {pretrained} cannot be loaded ({problem})") from None
    return model.eval(), transform, open_clip.get_tokenizer(name)


@lru_cache(maxsize=1)
def _language_model(name: str) -> tuple:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        return AutoModelForCausalLM.from_pretrained(name).eval(), AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"caption_perplexity: {name} cannot be loaded ({problem})") from None


@lru_cache(maxsize=2)
def _detector(codes: tuple[str, ...]) -> object:
    lingua = need("lingua")
    if not codes:
        return lingua.LanguageDetectorBuilder.from_all_languages().build()
    try:
        found = [getattr(lingua.IsoCode639_1, code.upper()) for code in codes]
    except AttributeError as problem:
        raise ConfigError(f"language: {problem}, expected codes such as en") from None
    return lingua.LanguageDetectorBuilder.from_iso_codes_639_1(*found).build()


_PARTS: dict[str, tuple[type[Part], object]] = {
    "image_size": (Image, _image_size),
    "image_aspect": (Image, _image_aspect),
    "text_length": (Text, _text_length),
    "text_pattern": (Text, _text_pattern),
    "repetition": (Text, _repetition),
    "speech_duration": (Speech, _speech_duration),
    "speech_activity": (Speech, _speech_activity),
    "clip_similarity": (Image, _clip_similarity),
    "caption_perplexity": (Text, _caption_perplexity),
}
_DOCUMENTS = {"image_count": _image_count, "language": _language, "license": _license}
