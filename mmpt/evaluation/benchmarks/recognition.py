"""Speech to text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mmpt.document import Part
from mmpt.evaluation.benchmarks import Result
from mmpt.evaluation.benchmarks._asking import text_of
from mmpt.evaluation.benchmarks._sources import Utterance
from mmpt.evaluation.benchmarks._speech import SpeechBenchmark
from mmpt.modality import MODALITIES

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class Recognition(SpeechBenchmark):
    """Speech to text by word and character error rate, as LibriSpeech is measured (Panayotov et al. 2015): the utterances of any
    source, both sides in lower case, letters, digits and apostrophes."""

    allowed: Literal["text", "anything"] = "text"
    """What the model may answer with; with `anything` an answer in pictures or speech is a wrong one."""

    def question(self, one: Utterance) -> tuple[Part, ...]:
        """See `SpeechBenchmark.question`."""
        return self.prompted(one.speech)

    def heard(self, model: "MultimodalModel", answers: Sequence[Sequence[Part]]) -> list[str]:
        """See `SpeechBenchmark.heard`."""
        return [text_of(answer) for answer in answers]

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: WER and CER."""
        outputs = MODALITIES if self.allowed == "anything" else ("text",)
        return self.scored(model, outputs, f"the text answered, {self.allowed} allowed")
