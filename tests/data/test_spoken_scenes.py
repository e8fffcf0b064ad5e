"""Scenes with spoken captions: picture, sound and text of one document say the same."""

import time

import pytest

from mmpt.data.sources import spoken_scenes as source
from mmpt.data.sources.spoken_scenes import SpokenScenes
from mmpt.data.synthetic import scenes
from mmpt.data.synthetic.espeak import Speaker
from mmpt.document import Image, Speech, Text
from mmpt.errors import ConfigError
from mmpt.media import decode_image, decode_speech

pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")


def config(**changes) -> SpokenScenes:
    return SpokenScenes(**{"kind": "spoken_scenes", "split": "test", "count": 6, **changes})


def spoken_scenes(config: SpokenScenes) -> list:
    return [document for document in config.documents()]


def test_the_parts_of_a_document_agree():
    found = list(spoken_scenes(config()))
    assert len({document.id for document in found}) == 6
    for document in found:
        picture, speech, text = document.parts
        assert isinstance(picture, Image) and isinstance(speech, Speech) and isinstance(text, Text)
        assert scenes.read_picture(decode_image(picture.data)).caption() == text.text == speech.text == picture.alt
        samples = decode_speech(speech.data)
        assert len(samples) / 16000 == pytest.approx(speech.duration) and abs(samples).max() > 0.1
        remaining = iter(text.text.split())  # words that are run together ("of a") have one time between them
        assert len(speech.words) >= 8 and all(word in remaining for word, _, _ in speech.words)
        starts = [start for _, start, _ in speech.words]
        assert starts == sorted(starts) and speech.words[-1][2] == pytest.approx(speech.duration, abs=0.01)


def test_the_two_sides_share_no_scene():
    sides = [{document.parts[2].text for document in spoken_scenes(config(split=split, count=40))} for split in ("train", "test")]
    assert not sides[0] & sides[1] and all(len(side) == 40 for side in sides)


def test_voices_take_turns_and_an_unknown_one_is_named():
    found = list(spoken_scenes(config(voices=("en-us", "en-gb-scotland"))))
    assert [document.meta["voice"] for document in found] == ["en-us", "en-gb-scotland"] * 3
    with pytest.raises(ConfigError, match="no-such"):
        list(spoken_scenes(config(voices=("no-such",))))


def test_a_breathy_voice_does_not_know_the_time():
    """espeak-ng seeds the noise in the voice by the second of the clock."""

    def said() -> bytes:
        with Speaker() as speaker:
            return speaker.speak("a small red circle", "en-us+f3").samples.tobytes()

    first = said()
    time.sleep(1.1)
    assert said() == first


def test_a_unit_is_the_same_whatever_was_read_before(monkeypatch):
    monkeypatch.setattr(source, "UNIT", 4)
    units = config(count=10).units()
    assert [unit.what for unit in units] == [(0, 4), (4, 8), (8, 10)]
    alone = list(config().read(units[1]))
    assert spoken_scenes(config(count=10))[4:8] == alone and len(alone) == 4
