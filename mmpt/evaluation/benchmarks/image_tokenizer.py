"""The model's image tokenizer alone, no decoder LLM between."""

from typing import TYPE_CHECKING

import numpy as np

from mmpt.data.sources import Source
from mmpt.document import Image
from mmpt.evaluation.benchmarks import Benchmark, Outcome, Result
from mmpt.evaluation.benchmarks._items import image_tokenizer
from mmpt.evaluation.benchmarks._sources import captioned_of
from mmpt.evaluation.metrics.intervals import mean_measure, whole_measure
from mmpt.evaluation.readers import PictureReader
from mmpt.media import decode_image, encode_png

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class ImageTokenizerAlone(Benchmark):
    """What the image tokenizer keeps: how many codes are in use, and the share of pictures that still show everything once they
    are decoded from their codes (our own: where a reader can tell what a picture shows, it says more than distances of
    pixels)."""

    source: Source
    """Documents with a picture and what it shows, as text."""
    reader: PictureReader
    """Which reads the pictures, and tells whether two texts say the same."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`."""
        import torch

        from mmpt.tokenizers.codebook_health import codebook_use

        tokenizer = image_tokenizer(model)
        found = captioned_of(self.source, self.limit)
        codes = tokenizer.encode([decode_image(one.image.data) for one in found.items])
        pictures, read = tokenizer.render(codes), self.reader.build()
        outcomes = []
        for one, picture in zip(found.items, pictures, strict=True):
            again, seen = Image(encode_png(picture), "png", picture.width, picture.height), read(picture)
            outcomes.append(Outcome(one.item, (one.image,), (again,), one.text, seen, float(self.reader.same(one.text, seen))))
        used = torch.from_numpy(np.asarray(codes))
        use, count = codebook_use(used, tokenizer.codes), len(outcomes)
        measures = (
            whole_measure("codebook used", use["used"], count),
            whole_measure("codebook entropy", use["entropy"], count),
            mean_measure("reconstruction accuracy", [one.score for one in outcomes]),
        )
        counts = torch.bincount(used.reshape(-1), minlength=tokenizer.codes).tolist()
        method = f"decoded pictures read by {self.reader.kind}; entropy ÷ that of even use"
        return Result(self.name, method, measures, tuple(outcomes), tuple(found.missing), tuple(counts))
