"""Captioning, from no example or with examples in front."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import pydantic

from mmpt.document import Part, Text
from mmpt.errors import DataError
from mmpt.evaluation.benchmarks import Outcome, Result
from mmpt.evaluation.benchmarks._asking import AskingBenchmark, text_of
from mmpt.evaluation.benchmarks._coco import CocoFiles, CocoImage, coco
from mmpt.evaluation.benchmarks._items import image_tokenizer
from mmpt.evaluation.metrics.captions import caption_scores
from mmpt.evaluation.metrics.intervals import measure
from mmpt.media import decode_image

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class Captions(AskingBenchmark):
    """Captions of pictures by CIDEr and BLEU, as COCO has them (Chen et al. 2015, arXiv:1504.00325), with examples in front as in
    Yang et al. 2022 (arXiv:2109.05014)."""

    carries: ClassVar[tuple[str, ...]] = ("MMICL (multi-modal in-context learning)",)

    test: CocoFiles
    """The pictures that are captioned."""
    support: CocoFiles | None = None
    """Where examples are taken from."""
    shots: int = pydantic.Field(default=0, ge=0)
    """Examples before each picture, each a picture and its first caption after the prompt."""
    choose: Literal["random", "rices"] = "random"
    """Which examples: at random, by `seed`, or the most alike by the embeddings of the image tokenizer, the most alike last."""
    max_new_tokens: int = pydantic.Field(default=64, ge=1)
    """Most tokens of a caption, its end included."""

    @pydantic.model_validator(mode="after")
    def _examples_from_somewhere(self) -> "Captions":
        if self.shots and self.support is None:
            raise ValueError("shots: examples are taken from support, which is missing")
        return self

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: CIDEr and BLEU-1 to BLEU-4."""
        missing: list[str] = []
        pictures = coco(self.test, missing, self.limit)
        questions: list[tuple[Part, ...]] = []
        for one, shown in zip(pictures, self._examples(pictures, model, missing), strict=True):
            parts = [part for other in shown for part in (*self.prompted(other.image), Text(other.captions[0]))]
            questions.append((*parts, *self.prompted(one.image)))
        said = [text_of(answer) for answer in self.answers(model, questions, ["text"])]
        scores = caption_scores([one.captions for one in pictures], said)
        outcomes = tuple(
            Outcome(one.item, question, (Text(text),), " / ".join(one.captions), text, float(score))
            for one, question, text, score in zip(pictures, questions, said, scores.cider, strict=True)
        )
        cider = measure("CIDEr", len(pictures), lambda chosen: float(scores.cider[chosen].mean()))
        how = f"{self.shots} examples ({self.choose})" if self.shots else "no example"
        method = f"{self.said()}, {how}; pycocoevalcap's CIDEr and BLEU over normalised words, not over PTB tokens"
        return Result(self.name, method, (cider, *scores.bleu), outcomes, tuple(missing))

    def _examples(self, pictures: Sequence[CocoImage], model: "MultimodalModel", missing: list[str]) -> list[list[CocoImage]]:
        """For each picture the examples to show before it."""
        if not self.shots or self.support is None:
            return [[] for _ in pictures]
        support = coco(self.support, missing)
        if len(support) < self.shots:
            raise DataError(f"{self.name}: {len(support)} pictures in support, {self.shots} are to be shown")
        if self.choose == "random":
            # A generator for each picture: its examples do not depend on `limit`, nor on which others are missing before it.
            draws = [np.random.default_rng((self.seed, number)) for number in range(len(pictures))]
            return [[support[n] for n in draw.choice(len(support), self.shots, replace=False)] for draw in draws]
        embed = image_tokenizer(model).embed
        known, asked = (embed([decode_image(one.image.data) for one in some]) for some in (support, pictures))
        order = np.argsort(-(asked @ known.T), axis=1, kind="stable")[:, : self.shots]
        # Reversed: what stands nearest to the question weighs most.
        return [[support[n] for n in row[::-1]] for row in order.tolist()]
