"""Pictures to text that a reader of texts can hold against what is known of them."""

from typing import TYPE_CHECKING, Literal

from mmpt.data.sources import Source
from mmpt.evaluation.benchmarks import Outcome, Result
from mmpt.evaluation.benchmarks._asking import AskingBenchmark, text_of
from mmpt.evaluation.benchmarks._sources import captioned_of
from mmpt.evaluation.metrics.intervals import mean_measure
from mmpt.evaluation.readers import PictureReader
from mmpt.modality import MODALITIES

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class ImageToText(AskingBenchmark):
    """The share of pictures of which the answer says everything that is known of them (our own: an answer is right or wrong where
    the reader can tell; for free captions see `captions`)."""

    source: Source
    """Documents with a picture and what it shows, as text."""
    reader: PictureReader
    """Which tells whether two texts say the same."""
    allowed: Literal["text", "anything"] = "text"
    """What the model may answer with; with `anything` an answer in pictures or speech is a wrong one."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: accuracy."""
        found = captioned_of(self.source, self.limit)
        questions = [self.prompted(one.image) for one in found.items]
        answers = self.answers(model, questions, MODALITIES if self.allowed == "anything" else ("text",))
        outcomes = tuple(
            Outcome(one.item, question, answer, one.text, text_of(answer), float(self.reader.same(one.text, text_of(answer))))
            for one, question, answer in zip(found.items, questions, answers, strict=True)
        )
        accuracy = mean_measure("accuracy", [one.score for one in outcomes])
        method = f"{self.said()}, {self.allowed} allowed; right where everything is"
        return Result(self.name, method, (accuracy,), outcomes, tuple(found.missing))
