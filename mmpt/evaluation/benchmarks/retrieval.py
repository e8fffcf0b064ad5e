"""Retrieval between pictures and captions."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pydantic

from mmpt.document import Text
from mmpt.evaluation.benchmarks import Benchmark, Outcome, Result
from mmpt.evaluation.benchmarks._coco import CocoFiles, coco
from mmpt.evaluation.benchmarks._items import image_tokenizer
from mmpt.evaluation.metrics.intervals import measure
from mmpt.evaluation.metrics.retrieval import recall
from mmpt.media import decode_image

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class Retrieval(Benchmark):
    """Recall at k between pictures and captions, both ways (Hodosh et al. 2013; COCO's captions as Karpathy and Fei-Fei 2015,
    arXiv:1412.2306), by the embeddings of the image tokenizer and its text tower."""

    carries: ClassVar[tuple[str, ...]] = ("CLIP",)

    test: CocoFiles
    """The pictures and their captions."""
    at: tuple[pydantic.PositiveInt, ...] = pydantic.Field(default=(1, 5, 10), min_length=1)
    """Each k: among how many of the most alike a right one must be."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: R@k both ways, with intervals over resampled queries."""
        tokenizer = image_tokenizer(model)
        missing: list[str] = []
        pictures = coco(self.test, missing, self.limit)
        captions = [(number, caption) for number, one in enumerate(pictures) for caption in one.captions]
        shown = tokenizer.embed([decode_image(one.image.data) for one in pictures])
        written = tokenizer.embed_texts([caption for _, caption in captions])
        of_picture = [[index for index, (number, _) in enumerate(captions) if number == own] for own in range(len(pictures))]
        of_caption = [[number] for number, _ in captions]
        measures, best = [], np.zeros(0)
        for name, queries, items, right in (
            ("picture to text", shown, written, of_picture),
            ("text to picture", written, shown, of_caption),
        ):
            for k in self.at:
                # Query by query, so that they can be resampled.
                hits = np.array([recall(queries[n : n + 1], items, right[n : n + 1], k) for n in range(len(queries))])
                measures.append(measure(f"{name} R@{k}", len(hits), lambda chosen, hits=hits: float(hits[chosen].mean())))
                best = hits if name == "picture to text" and k == self.at[0] else best
        outcomes = []
        for one, vector, score in zip(pictures, shown, best, strict=True):
            nearest = captions[int(np.argmax(written @ vector))][1]
            outcomes.append(Outcome(one.item, (one.image,), (Text(nearest),), " / ".join(one.captions), nearest, float(score)))
        method = "scalar products of the image tokenizer's embeddings"
        return Result(self.name, method, tuple(measures), tuple(outcomes), tuple(missing))
