"""How much of an utterance is speech."""

from typing import ClassVar

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.data.hearing.stretches import spoken_stretches
from mmpt.document import Document, Speech
from mmpt.media import decode_speech
from mmpt.modality import SAMPLE_RATE


class SpeechActivity(PartRule):
    """Share of an utterance in which silero-vad hears speech (github.com/snakers4/silero-vad). The score is kept as
    `speech_activity`."""

    judges: ClassVar = Speech
    min: float = 0.3
    """Share of the time at least."""

    def judge(self, part: Speech, document: Document, place: int) -> Verdict:
        samples = decode_speech(part.data, SAMPLE_RATE)
        spoken = sum(end - start for start, end in spoken_stretches(samples))
        share = round(spoken / len(samples), 4)
        return Verdict(None if share >= self.min else f"speech in {share:.0%} of it", {"speech_activity": share})
