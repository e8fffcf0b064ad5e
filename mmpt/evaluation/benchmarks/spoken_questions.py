"""Spoken question answering."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmpt.data.hearing.recogniser import ListenerConfig
from mmpt.document import Text
from mmpt.errors import DataError
from mmpt.evaluation.benchmarks import Result
from mmpt.evaluation.benchmarks._asking import AskingBenchmark, text_of
from mmpt.evaluation.benchmarks._items import first, items_of, speech_file
from mmpt.evaluation.benchmarks._questions import Question, contains, outcomes_of
from mmpt.evaluation.metrics.intervals import mean_measure
from mmpt.evaluation.metrics.listening import heard, reader

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel


class SpokenQuestions(AskingBenchmark):
    """Questions asked by speech, as LLaMA-Questions (Nachmani et al. 2023, arXiv:2305.15255), Web Questions and TriviaQA are
    given for speech models: right where one of the answers stands in what was said, both normalised."""

    file: Path
    """JSON lines with `question`, `audio` (a path in the file's folder) and `answers` (or `answer`)."""
    typed: bool = False
    """Asked by text."""
    spoken: bool = False
    """Answered in speech, else in text."""
    listener: ListenerConfig | None = None
    """Who reads what is spoken; by default the model's own speech tokenizer."""

    def run(self, model: "MultimodalModel") -> Result:
        """See `Benchmark.run`: the share of right answers."""
        missing: list[str] = []
        questions = first(self._questions(missing), self.limit)
        answers = self.answers(model, [one.asked for one in questions], ["speech" if self.spoken else "text"])
        said = heard(model, answers, self.listener) if self.spoken else [text_of(answer) for answer in answers]
        scores = [float(contains(text, one.right)) for one, text in zip(questions, said, strict=True)]
        method = f"{'typed' if self.typed else 'spoken'} question, answered in {'speech' if self.spoken else 'text'}, "
        method += f"{self.said()}; right where an answer is contained in it"
        method += f", as read by {reader(self.listener)}" if self.spoken else ""
        outcomes = outcomes_of(questions, answers, said, scores)
        return Result(self.name, method, (mean_measure("accuracy", scores),), outcomes, tuple(missing))

    def _questions(self, missing: list[str]) -> Iterator[Question]:
        def question(item: str, row: dict[str, Any]) -> Question:
            answers = row.get("answers", row.get("answer"))
            answers = [answers] if isinstance(answers, str) else answers
            if not isinstance(answers, list) or not answers:
                raise DataError("no answers")
            asked = Text(row["question"]) if self.typed else speech_file(self.file.parent, row["audio"])
            return Question(item, self.prompted(asked), tuple(str(answer) for answer in answers))

        return items_of(self.file, "id", question, missing)
