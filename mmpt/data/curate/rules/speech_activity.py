"""How much of an utterance is speech."""

from functools import lru_cache
from typing import Any, ClassVar

from mmpt.data.curate.rules import PartRule, Verdict
from mmpt.data.extra import need
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
        import torch

        model, timestamps = _detector()
        samples = torch.from_numpy(decode_speech(part.data, SAMPLE_RATE))
        model.reset_states()  # the model is recurrent: the utterance before must not be heard in this one
        spoken = sum(stretch["end"] - stretch["start"] for stretch in timestamps(samples, model, sampling_rate=SAMPLE_RATE))
        share = round(spoken / len(samples), 4)
        return Verdict(None if share >= self.min else f"speech in {share:.0%} of it", {"speech_activity": share})


@lru_cache(maxsize=1)
def _detector() -> tuple[Any, Any]:
    """(the model, what finds stretches of speech with it), loaded once in each process."""
    module = need("silero_vad")
    return module.load_silero_vad(), module.get_speech_timestamps
