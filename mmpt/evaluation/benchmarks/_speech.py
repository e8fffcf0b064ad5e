"""What recognition and synthesis have in common: utterances of a source, scored by their words and characters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pydantic

from mmpt.data.sources import Source
from mmpt.document import Part
from mmpt.evaluation.benchmarks import Outcome, Result
from mmpt.evaluation.benchmarks._asking import AskingBenchmark
from mmpt.evaluation.benchmarks._sources import Utterance, utterances_of
from mmpt.evaluation.metrics.recognition import error_rates, words_right
from mmpt.modality import Modality

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class SpeechBenchmark(AskingBenchmark):
    """A benchmark on utterances and their texts."""

    source: Source
    """Documents with speech and its text, such as `{kind: librispeech, folder: …}`."""
    max_new_tokens: int = pydantic.Field(default=512, ge=1)
    """Most tokens of an answer, its end included."""

    def question(self, one: Utterance) -> tuple[Part, ...]:
        """What is asked, the prompt in front."""
        raise NotImplementedError

    def heard(self, model: "MultimodalModel", answers: Sequence[Sequence[Part]]) -> list[str]:
        """What each answer says."""
        raise NotImplementedError

    def scored(self, model: "MultimodalModel", outputs: Sequence[Modality], method: str) -> Result:
        """WER and CER, over all words and characters together."""
        utterances = utterances_of(self.source, self.limit)
        questions = [self.question(one) for one in utterances.items]
        answers = self.answers(model, questions, outputs)
        found = self.heard(model, answers)
        expected = [one.text for one in utterances.items]
        outcomes = tuple(
            Outcome(one.item, question, answer, one.text, got, words_right(one.text, got))
            for one, question, answer, got in zip(utterances.items, questions, answers, found, strict=True)
        )
        rates = error_rates(expected, found)
        return Result(self.name, f"{self.said()}; {method}; jiwer, normalised", rates, outcomes, tuple(utterances.missing))
