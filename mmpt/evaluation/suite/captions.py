"""Captioning, from no example or with examples in front, and retrieval between pictures and captions; files as COCO has them.

CIDEr (Vedantam et al. 2015) and BLEU are pycocoevalcap's; its Java tokenizer is not used: words are those of
`mmpt.evaluation.recognition.normalise`, which is said in every result.
"""

import contextlib
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.document import Image, Part, Text
from mmpt.errors import ConfigError, DataError
from mmpt.evaluation.recognition import normalise
from mmpt.evaluation.retrieval import recall
from mmpt.evaluation.suite.base import Benchmark, Measure, Outcome, Result, ask, image_file, measure, text_of
from mmpt.media import decode_image
from mmpt.storage import read_json

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class CocoFiles(Schema):
    """`annotations`: a captions file of COCO ({"images": […], "annotations": […]}); `images`: the folder of its pictures."""

    annotations: Path
    images: Path


class CaptionsConfig(Benchmark):
    """Captions for the pictures of `test`. With `shots`, as many examples of `support` come before each picture, chosen by
    `choose`: at `random`, or the most alike (`rices`, Yang et al. 2022, arXiv:2109.05014, the most alike last), by the embeddings
    of the image tokenizer. `prompt` comes before every picture."""

    kind: Literal["captions"]
    test: CocoFiles
    support: CocoFiles | None = None
    shots: int = pydantic.Field(default=0, ge=0)
    choose: Literal["random", "rices"] = "random"
    seed: int = 0
    prompt: str = ""
    max_new_tokens: int = 64

    @pydantic.model_validator(mode="after")
    def _examples_from_somewhere(self) -> "CaptionsConfig":
        if self.shots and self.support is None:
            raise ValueError("shots: examples are taken from support, which is missing")
        return self


class RetrievalConfig(Benchmark):
    """Pictures and captions of `test` by the embeddings of the image tokenizer and its text tower."""

    kind: Literal["retrieval"]
    test: CocoFiles
    at: tuple[int, ...] = (1, 5, 10)


class Captioned(NamedTuple):
    """A picture and what people said of it."""

    item: str
    picture: Image
    captions: tuple[str, ...]


def run_captions(config: CaptionsConfig, model: "MultimodalModel") -> Result:
    """CIDEr and BLEU-1 to BLEU-4."""
    missing: list[str] = []
    pictures = coco(config.test, missing, config.limit)
    examples = _examples(config, pictures, model, missing)
    before = (Text(config.prompt),) if config.prompt else ()
    asked: list[tuple[Part, ...]] = []
    for one, shown in zip(pictures, examples, strict=True):
        parts = [part for other in shown for part in (*before, other.picture, Text(other.captions[0]))]
        asked.append((*parts, *before, one.picture))
    said = [text_of(answer) for answer in ask(model, asked, outputs=["text"], max_new_tokens=config.max_new_tokens)]
    cider, bleu = caption_scores([one.captions for one in pictures], said)
    outcomes = tuple(
        Outcome(one.item, question, (Text(text),), " / ".join(one.captions), text, float(score))
        for one, question, text, score in zip(pictures, asked, said, cider, strict=True)
    )
    how = f"{config.shots} examples ({config.choose})" if config.shots else "no example"
    method = f"greedy, {how}; pycocoevalcap's CIDEr and BLEU over normalised words, not over PTB tokens"
    count = len(pictures)
    measures = (measure("CIDEr", count, lambda chosen: float(cider[chosen].mean())), *bleu)
    return Result(config.name, method, measures, outcomes, tuple(missing))


def caption_scores(references: Sequence[Sequence[str]], said: Sequence[str]) -> tuple[np.ndarray, tuple[Measure, ...]]:
    """(CIDEr of each caption, its idf over all references; BLEU-1 … 4 of them all). Raises `ConfigError` where pycocoevalcap is
    not installed."""
    try:
        from pycocoevalcap.bleu.bleu_scorer import BleuScorer
        from pycocoevalcap.cider.cider import Cider
    except ImportError:
        raise ConfigError("captions need the package pycocoevalcap (pip install mmpt[evaluate])") from None
    wanted = [[normalise(caption) for caption in captions] for captions in references]
    found = [normalise(text) for text in said]
    _, cider = Cider().compute_score(dict(enumerate(wanted)), {number: [text] for number, text in enumerate(found)})

    def bleu(chosen: np.ndarray) -> list[float]:
        scorer = BleuScorer(n=4)
        for number in chosen.tolist():
            scorer += (found[number], wanted[number])
        with contextlib.redirect_stdout(io.StringIO()):
            return scorer.compute_score(option="closest", verbose=0)[0]

    @cache
    def of_sample(chosen: bytes) -> list[float]:
        return bleu(np.frombuffer(chosen, dtype=np.int64))

    measures = tuple(
        measure(f"BLEU-{order + 1}", len(found), lambda chosen, order=order: of_sample(chosen.astype(np.int64).tobytes())[order])
        for order in range(4)
    )
    return np.asarray(cider, dtype=np.float64), measures


def run_retrieval(config: RetrievalConfig, model: "MultimodalModel") -> Result:
    """R@k both ways, with intervals over resampled queries."""
    if model.tokenizer.image is None:
        raise ConfigError(f"{config.name}: the model has no image tokenizer")
    missing: list[str] = []
    pictures = coco(config.test, missing, config.limit)
    captions = [(number, caption) for number, one in enumerate(pictures) for caption in one.captions]
    shown = model.tokenizer.image.embed([decode_image(one.picture.data) for one in pictures])
    written = model.tokenizer.image.embed_texts([caption for _, caption in captions])
    of_picture = [[place for place, (number, _) in enumerate(captions) if number == own] for own in range(len(pictures))]
    of_caption = [[number] for number, _ in captions]
    measures, best = [], []
    for name, queries, items, right in (
        ("picture to text", shown, written, of_picture),
        ("text to picture", written, shown, of_caption),
    ):
        for k in config.at:
            hits = np.array([recall(queries[n : n + 1], items, right[n : n + 1], k) for n in range(len(queries))])
            measures.append(measure(f"{name} R@{k}", len(hits), lambda chosen, hits=hits: float(hits[chosen].mean())))
            best = hits if name == "picture to text" and k == config.at[0] else best
    outcomes = tuple(
        Outcome(one.item, (one.picture,), (Text(captions[int(np.argmax(written @ vector))][1]),), " / ".join(one.captions),
                captions[int(np.argmax(written @ vector))][1], float(score))
        for one, vector, score in zip(pictures, shown, best, strict=True)
    )  # fmt: skip
    return Result(config.name, "scalar products of the image tokenizer's embeddings", tuple(measures), outcomes, tuple(missing))


def coco(files: CocoFiles, missing: list[str], limit: int | None = None) -> list[Captioned]:
    """The pictures of a captions file, in its order. Raises `DataError` where it is no such file or nothing is left."""
    content = read_json(files.annotations)
    try:
        captions: dict[object, list[str]] = {}
        for row in content["annotations"]:
            captions.setdefault(row["image_id"], []).append(row["caption"])
        rows = [(row["id"], row["file_name"]) for row in content["images"]]
    except (KeyError, TypeError) as problem:
        raise DataError(f"{files.annotations}: no captions file of COCO's form ({problem!r})") from None
    found = []
    for number, name in rows:
        if limit is not None and len(found) == limit:
            break
        try:
            if number not in captions:
                raise DataError("no caption")
            found.append(Captioned(str(number), image_file(files.images, name), tuple(captions[number])))
        except DataError as problem:
            missing.append(f"{number}: {problem}")
    if not found:
        raise DataError(f"{files.annotations}: no picture with a caption")
    return found


def _examples(
    config: CaptionsConfig, pictures: Sequence[Captioned], model: "MultimodalModel", missing: list[str]
) -> list[list[Captioned]]:
    """For each picture the examples to show before it."""
    if not config.shots:
        return [[] for _ in pictures]
    support = coco(config.support, missing)
    if len(support) < config.shots:
        raise DataError(f"{config.name}: {len(support)} pictures in support, {config.shots} are to be shown")
    if config.choose == "random":
        draws = [np.random.default_rng((config.seed, number)) for number in range(len(pictures))]
        return [[support[n] for n in draw.choice(len(support), config.shots, replace=False)] for draw in draws]
    if model.tokenizer.image is None:
        raise ConfigError(f"{config.name}: choose: rices needs an image tokenizer")
    embed = model.tokenizer.image.embed
    known, asked = (embed([decode_image(one.picture.data) for one in some]) for some in (support, pictures))
    order = np.argsort(-(asked @ known.T), axis=1, kind="stable")[:, : config.shots]
    return [[support[n] for n in row[::-1]] for row in order.tolist()]
