"""What benchmarks have in common that put questions to a model and read its answers."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pydantic

from mmpt.document import Part, Text
from mmpt.errors import ConfigError
from mmpt.evaluation.benchmarks import Benchmark
from mmpt.inference.samplers import Sampler
from mmpt.inference.samplers.greedy import Greedy
from mmpt.modality import Modality

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

BATCH = 32
"""Questions that are answered side by side."""


class AskingBenchmark(Benchmark):
    """A benchmark of questions that are answered by writing."""

    prompt: str = ""
    """Text before every question, a part of its own as the `prompt` of training's arrangements is."""
    chat: bool = False
    """Each question is a user's turn, marked by the chat template that the model was trained with."""
    max_new_tokens: int = pydantic.Field(default=256, ge=1)
    """Most tokens of an answer, its end included."""
    sampler: Sampler = Greedy()
    """How answers are sampled."""
    seed: int = pydantic.Field(default=0, ge=0, lt=1 << 62)
    """Of the sampling; question i is answered with `seed` + i."""

    def prompted(self, *parts: Part) -> tuple[Part, ...]:
        """`parts` after the prompt, where there is one."""
        return (Text(self.prompt), *parts) if self.prompt else parts

    def answers(
        self, model: "MultimodalModel", questions: Sequence[Sequence[Part]], outputs: Sequence[Modality]
    ) -> list[tuple[Part, ...]]:
        """The parts that answer each question, in order; nothing but `outputs` may be written. Raises `ConfigError` where the
        questions are to be marked and the model has no chat template."""
        if self.chat and model.tokenizer.chat is None:
            raise ConfigError("chat: the model was trained with no chat template")
        if self.chat:
            questions = [[replace(part, role="user") for part in question] for question in questions]
        samplers = {"text": self.sampler, "image": self.sampler, "speech": self.sampler}
        found: list[tuple[Part, ...]] = []
        for start in range(0, len(questions), BATCH):
            settings = {"outputs": list(outputs), "max_new_tokens": self.max_new_tokens, "seed": self.seed + start, **samplers}
            found += [answer.parts for answer in model.answer(questions[start : start + BATCH], **settings)]
        return found

    def said(self) -> str:
        """How answers were sampled, for a result's `method`."""
        return "greedy" if self.sampler == Greedy() else f"sampled ({self.sampler.kind}, seed {self.seed})"


def text_of(answer: Sequence[Part]) -> str:
    """The text of an answer, other parts left out."""
    return " ".join(part.text for part in answer if isinstance(part, Text)).strip()
