"""Text corpora to speech-text documents: random spans of words are spoken."""

from collections.abc import Iterable
from typing import ClassVar

from mmpt.data.curate.spans import Spans
from mmpt.data.curate.steps import Step
from mmpt.data.curate.voices import Voice
from mmpt.data.curate.voices.espeak import Espeak
from mmpt.data.engine.task import Written
from mmpt.data.lost import Lost
from mmpt.document import Document
from mmpt.vocabulary import Vocabulary


class Interleave(Step, Spans):
    """Random spans of words spoken: Zeng et al. 2024, "Scaling Speech-Text Pre-training with Synthetic Interleaved Data"
    (arXiv:2411.17607), section 2.2: span lengths from a Poisson distribution (λ = 10 words), spans drawn until a share of the
    words (η = 0.3) is spoken."""

    carries: ClassVar[tuple[str, ...]] = (
        "InSerter (interleaved speech-text representation pre-training)",
        "Scaling Speech-Text Pre-training (synthetic interleaved; GLM-4-Voice base)",
    )

    speech: Voice = Espeak()
    """What speaks the spans."""

    def run(self, documents: Iterable[Document | Lost], told: None = None) -> Written:
        """The interleaved documents of a shard, or their tokens where the voice gives codes."""
        return self.speech.interleave(self, documents)

    def vocabulary(self) -> Vocabulary | None:
        return self.speech.vocabulary()
