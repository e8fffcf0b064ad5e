"""Utterances that overlap, in noise."""

import random
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pydantic

from mmpt.data.curate.compositions import Composition
from mmpt.data.curate.noises import Noise
from mmpt.data.curate.rights import shared_meta
from mmpt.data.curate.utterances import lone_utterance
from mmpt.data.lost import Documents, Lost
from mmpt.document import Document, Speech, Text
from mmpt.errors import DataError
from mmpt.media import decode_speech, encode_flac
from mmpt.modality import SAMPLE_RATE

RULE = "mixture"
_LOUDEST = 0.98
_Clip = tuple[Document, Speech, np.ndarray]


class Mixture(Composition):
    """Utterances of several speakers that overlap, in noise of a given ratio (LibriMix, Cosentino et al. 2020, arXiv:2005.11262;
    overlap by share as in LibriCSS, Chen et al. 2020, arXiv:2001.11482).

    Documents of a shard that are one utterance each, and at most what it says as a text, become one of 16 kHz: neighbours, or
    those of another meta["voice"]. Its transcript is what they say, in the order in which they begin (serialized output training,
    Kanda et al. 2020, arXiv:2003.12687). All others stay as they are. meta["mixed"] holds ids, starts, gains and the ratio:
    each can be had again.
    """

    speakers: int = pydantic.Field(default=2, ge=1)
    """Utterances of a mixture; fewer at the end of a shard."""
    window: int = pydantic.Field(default=64, ge=1)
    """Utterances among which one of another voice is looked for."""
    overlap: tuple[float, float] = (0.0, 0.4)
    """Share of the shorter of two neighbours in which both speak, at least and at most; drawn for each."""
    levels: tuple[float, float] = (-3.0, 3.0)
    """dB of an utterance's power against the first one's, at least and at most; drawn for each."""
    noise: str = ""
    """white, pink, or the folder or URL of recordings, of which one is drawn; empty: none."""
    snr: tuple[float, float] = (5.0, 20.0)
    """dB of the power of all speech against the noise's, over the whole mixture, at least and at most."""
    change: str = "\n"
    """What stands in the transcript where another begins, such as " <sc> "."""
    seed: int = 0
    """What is drawn with."""

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> "Mixture":
        for name in ("overlap", "levels", "snr"):
            least, most = getattr(self, name)
            if least > most:
                raise ValueError(f"{name}: {least} is more than {most}")
        if not 0 <= self.overlap[0] <= self.overlap[1] <= 1:
            raise ValueError(f"overlap: expected shares of 0 to 1, not {self.overlap}")
        return self

    def compose(self, documents: Iterable[Document | Lost]) -> Documents:
        noise = Noise(self.noise)
        waiting: list[_Clip] = []
        for one in documents:
            spoken = None if isinstance(one, Lost) else lone_utterance(one)
            if isinstance(one, Lost) or spoken is None:
                yield one
                continue
            try:
                waiting.append((one, spoken, decode_speech(spoken.data, SAMPLE_RATE)))
            except DataError as problem:
                yield Lost(one.id, str(problem), one.id, True, RULE)
                continue
            if len(waiting) >= max(self.window, self.speakers):
                yield self._mixed(self._group(waiting), noise)
        while waiting:
            group = self._group(waiting)
            yield self._mixed(group, noise) if self.noise or len(group) > 1 else group[0][0]

    def _group(self, waiting: list[_Clip]) -> list[_Clip]:
        """The first of those that wait, and others, each of another voice than those before where there is one."""
        group = [waiting.pop(0)]
        while waiting and len(group) < self.speakers:
            voices = {document.meta.get("voice") for document, *_ in group} - {None}
            other = (place for place, (document, *_) in enumerate(waiting) if document.meta.get("voice") not in voices)
            group.append(waiting.pop(next(other, 0)))
        return group

    def _mixed(self, group: list[_Clip], noise: Noise) -> Document:
        first = group[0][0]
        draw = random.Random(f"{self.seed} {first.id}")
        starts, gains = [0], [1.0]
        for (_, _, before), (_, _, samples) in zip(group, group[1:], strict=False):
            shared = round(draw.uniform(*self.overlap) * min(len(before), len(samples)))
            starts.append(max(starts[-1], starts[-1] + len(before) - shared))
            level = draw.uniform(*self.levels)
            own, wanted = _power(samples), _power(group[0][2]) * 10 ** (level / 10)
            gains.append((wanted / own) ** 0.5 if own and wanted else 1.0)
        total = max(start + len(samples) for start, (_, _, samples) in zip(starts, group, strict=True))
        mixed = np.zeros(total)
        for start, gain, (_, _, samples) in zip(starts, gains, group, strict=True):
            mixed[start : start + len(samples)] += gain * samples.astype(np.float64)
        told: dict = {"of": [document.id for document, _, _ in group], "starts": [start / SAMPLE_RATE for start in starts]}
        if self.noise:
            told["snr"] = round(draw.uniform(*self.snr), 3)
            name, sound = noise.drawn(total, draw)
            told["noise"] = name
            loud = _power(sound)
            if loud and _power(mixed):
                mixed += sound * (_power(mixed) / loud / 10 ** (told["snr"] / 10)) ** 0.5
        scale = min(1.0, _LOUDEST / max(float(np.abs(mixed).max()), 1e-9))
        told["gains"] = [gain * scale for gain in gains]
        spoken = self._speech(group, starts, (mixed * scale).astype(np.float32))
        parts = tuple(replace(part, text=spoken.text) if isinstance(part, Text) else spoken for part in first.parts)
        return Document(first.id, first.source, parts, {**shared_meta(document for document, _, _ in group), "mixed": told})

    def _speech(self, group: list[_Clip], starts: list[int], samples: np.ndarray) -> Speech:
        clips = [clip for _, clip, _ in group]
        timed = all(clip.words or not clip.text.strip() for clip in clips)
        words = sorted(
            (
                (word, begin + start / SAMPLE_RATE, end + start / SAMPLE_RATE)
                for start, clip in zip(starts, clips, strict=True)
                for word, begin, end in clip.words
            ),
            key=lambda one: one[1],
        )
        return Speech(
            data=encode_flac(samples, SAMPLE_RATE),
            suffix="flac",
            sample_rate=SAMPLE_RATE,
            duration=len(samples) / SAMPLE_RATE,
            text=self.change.join(text for clip in clips if (text := clip.text.strip())),
            words=tuple(words) if timed else (),
            weight=clips[0].weight,
        )


def _power(samples: np.ndarray) -> float:
    return float(np.square(samples, dtype=np.float64).mean()) if len(samples) else 0.0
