"""Text to speech."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mmpt.data.hearing.recogniser import ListenerConfig
from mmpt.document import Part, Text
from mmpt.evaluation.benchmarks import Result
from mmpt.evaluation.benchmarks._sources import Utterance
from mmpt.evaluation.benchmarks._speech import SpeechBenchmark
from mmpt.evaluation.metrics.listening import heard, reader
from mmpt.modality import MODALITIES

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class Synthesis(SpeechBenchmark):
    """Text to speech by the word and character error rate of the sound read back, as VALL-E is measured (Wang et al. 2023,
    arXiv:2301.02111): the texts of the utterances of any source."""

    allowed: Literal["speech", "anything"] = "speech"
    """What the model may answer with; with `anything` an answer in text or pictures is a wrong one."""
    listener: ListenerConfig | None = None
    """Who reads what is spoken; by default the model's own speech tokenizer."""

    def question(self, one: Utterance) -> tuple[Part, ...]:
        """See `SpeechBenchmark.question`."""
        return self.prompted(Text(one.text))

    def heard(self, model: "MultimodalModel", answers: Sequence[Sequence[Part]]) -> list[str]:
        """See `SpeechBenchmark.heard`."""
        return heard(model, answers, self.listener)

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: WER and CER of what is heard."""
        outputs = MODALITIES if self.allowed == "anything" else ("speech",)
        return self.scored(model, outputs, f"the speech answered, {self.allowed} allowed, read by {reader(self.listener)}")
