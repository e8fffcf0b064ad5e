"""Text to pictures, read back from their pixels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mmpt.data.sources import Source
from mmpt.document import Image, Part, Text
from mmpt.evaluation.benchmarks import Outcome, Result
from mmpt.evaluation.benchmarks._asking import AskingBenchmark
from mmpt.evaluation.benchmarks._sources import captioned_of
from mmpt.evaluation.metrics.intervals import mean_measure
from mmpt.evaluation.readers import PictureReader, Read
from mmpt.media import decode_image
from mmpt.modality import MODALITIES

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class TextToImage(AskingBenchmark):
    """The share of texts of which the picture answered shows everything, read back from its pixels, after GenEval (Ghosh et al.
    2023, arXiv:2310.11513), but by a reader that was not learned."""

    source: Source
    """Documents with a picture and what it shows, as text; only the text is asked."""
    reader: PictureReader
    """Which reads the pictures, and tells whether two texts say the same."""
    allowed: Literal["image", "anything"] = "image"
    """What the model may answer with; with `anything` an answer in text or speech is a wrong one."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: accuracy."""
        found = captioned_of(self.source, self.limit)
        questions = [self.prompted(Text(one.text)) for one in found.items]
        answers = self.answers(model, questions, MODALITIES if self.allowed == "anything" else ("image",))
        read = self.reader.build()
        seen = [shown(answer, read) for answer in answers]
        outcomes = tuple(
            Outcome(one.item, question, answer, one.text, got, float(self.reader.same(one.text, got)))
            for one, question, answer, got in zip(found.items, questions, answers, seen, strict=True)
        )
        accuracy = mean_measure("accuracy", [one.score for one in outcomes])
        method = (
            f"{self.said()}, {self.allowed} allowed; the first picture, read by {self.reader.kind}; right where everything is"
        )
        return Result(self.name, method, (accuracy,), outcomes, tuple(found.missing))


def shown(answer: Sequence[Part], read: Read) -> str:
    """What the first picture of an answer shows, "" where there is none."""
    picture = next((part for part in answer if isinstance(part, Image)), None)
    return read(decode_image(picture.data)) if picture else ""
