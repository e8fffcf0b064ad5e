"""Text read aloud by Flite."""

import ctypes

import numpy as np
import pytest

from mmpt.data.synthetic import flite
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.errors import ConfigError
from mmpt.media import decode_speech

TEXT = "The capital of France is Paris, and 7 plus 2 is nine."


@pytest.fixture
def installed():
    try:
        flite.speak("yes", "kal16")
    except ConfigError as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize("voice", flite.VOICES)
def test_words_are_heard_where_their_times_say(installed, voice):
    said = flite.speak(TEXT, voice)
    assert " ".join(word for word, _, _ in said.words) == "the capital of france is paris and seven plus two is nine"
    times = np.array([(start, end) for _, start, end in said.words])
    seconds = len(said.samples) / said.sample_rate
    assert (times[:, 0] < times[:, 1]).all() and (times[1:, 0] >= times[:-1, 1] - 1e-4).all() and times[-1, 1] <= seconds
    loud = [np.abs(said.samples[int(start * said.sample_rate) : int(end * said.sample_rate)]).max() for start, end in times]
    before = np.abs(said.samples[: int(0.5 * times[0, 0] * said.sample_rate)]).max()
    assert min(loud) > 3 * before and max(loud) <= 1


def test_the_same_text_gives_the_same_samples_whatever_was_said_before(installed):
    first = flite.speak(TEXT).samples
    flite.speak("something else")
    assert np.array_equal(flite.speak(TEXT).samples, first)  # its excitation is noise


def test_words_a_minute_stretch_the_sound(installed):
    slow, quick = (len(flite.speak(TEXT, "slt", rate).samples) for rate in (100, 200))
    assert slow / quick == pytest.approx(2, rel=0.1)


def test_a_voice_of_flite_stands_among_those_of_espeak(installed):
    pytest.importorskip("espeakng_loader", reason="the extra `quickstart` is not installed")
    with Speaker() as speaker:
        spoken = read_aloud(speaker, "one two", "flite:slt", 170)
        assert [word for word, _, _ in spoken.words] == ["one", "two"] and spoken.text == "one two"
        assert len(decode_speech(spoken.data)) / 16000 == pytest.approx(spoken.duration)
        with pytest.raises(ConfigError, match="Flite has no voice 'nobody': expected one of slt"):
            read_aloud(speaker, "one two", "flite:nobody")


def test_a_missing_library_says_how_it_is_installed(monkeypatch):
    def missing(name):
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(ConfigError, match="libflite_of_nobody: apt install libflite1"):
        flite._loaded("flite_of_nobody")
