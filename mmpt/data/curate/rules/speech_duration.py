"""How long an utterance is."""

from typing import ClassVar

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.document import Document, Speech


class SpeechDuration(PartRule):
    """Seconds of an utterance, at most 30 as the encoder of Whisper takes: Radford et al. 2022 (arXiv:2212.04356)."""

    judges: ClassVar = Speech
    min: float = 0.0
    """Seconds at least."""
    max: float = 30.0
    """Seconds at most."""

    def judge(self, part: Speech, document: Document, place: int) -> Verdict:
        return Verdict(None if self.min <= part.duration <= self.max else f"{part.duration:.2f} s")
