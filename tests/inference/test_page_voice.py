"""The page's voice: hold to talk and hands-free, answers spoken as they come, broken off by who speaks."""

from pathlib import Path

import pytest

from mmpt.chat import ChatConfig
from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits

from .browser import CHROMIUM, LASTS, PHONE, ask, comes, frames, hold, keep, opened, recorded, set_up, until
from .live import serving
from .tiny import write_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """A model of turns that speaks while it writes, and so is sure to speak, and does not end by itself: (address, service)."""
    chat = ChatConfig(template="plain", alternate=(3, 8))
    model = load(write_checkpoint(tmp_path_factory.mktemp("tiny"), chat=chat))
    with serving(model, Limits()) as found:
        yield found


@pytest.fixture(scope="module")
def microphone(tmp_path_factory) -> Path:
    return recorded(tmp_path_factory.mktemp("microphone"))


def test_hold_to_talk_is_answered_in_sound(talking, microphone):
    with opened(talking[0], f"--use-file-for-fake-audio-capture={microphone}") as page:
        comes(page, "document.querySelector('#model').textContent === 'tiny'")
        set_up(page, temperature="1.3", tokens="120")
        page.locator("#speak").click()
        page.wait_for_selector("#state:has-text('Hold the button and speak')")
        keep(page, "voice")
        hold(page, 2.5)
        page.wait_for_selector(".turn.assistant audio", timeout=60_000)
        user = page.locator(".turn.user")
        assert user.locator("audio").evaluate(LASTS) == pytest.approx(2.5, abs=0.4)
        assert page.locator(".turn.assistant audio").evaluate(LASTS) > 0.1
        # What was spoken was played, piece by piece.
        page.wait_for_selector("#state:has-text('Hold the button and speak')")
        keep(page, "voice-answered")
        # By the keyboard too.
        page.locator("#hold").focus()
        page.keyboard.down(" ")
        page.wait_for_selector("#state:has-text('Speak')")
        page.wait_for_timeout(600)
        page.keyboard.up(" ")
        comes(page, "document.querySelectorAll('.turn.assistant').length === 2")
        comes(page, "document.querySelectorAll('.turn.assistant audio, .turn.assistant p').length >= 2")
        page.locator("#hang").click()
        page.wait_for_selector("#text", state="visible")
        assert page.locator(".problem").count() == 0
        # What was said by voice is kept, and goes on in writing.
        page.reload()
        page.locator("#conversations .open").first.click()
        comes(page, "document.querySelectorAll('.turn').length === 4")
        assert page.locator(".turn.user audio").count() == 2
        ask(page, "and now in writing", tokens="8")
        page.wait_for_selector(".turn.assistant .note")
        assert page.locator(".problem").count() == 0


def test_a_press_breaks_off_what_is_being_said(talking, microphone):
    address, service = talking
    with opened(address, f"--use-file-for-fake-audio-capture={microphone}") as page:
        sent = frames(page)
        comes(page, "document.querySelector('#model').textContent === 'tiny'")
        set_up(page, temperature="1.3", tokens="3000")
        page.locator("#speak").click()
        page.wait_for_selector("#state:has-text('Hold the button and speak')")
        hold(page, 1.0)
        until(page, lambda: any(one["type"] == "response.output_audio.delta" for _, one in sent))
        page.wait_for_timeout(500)
        hold(page, 0.5)
        page.wait_for_selector(".turn.assistant .note:has-text('broken off')")
        until(page, lambda: any(one["type"] == "conversation.item.truncated" for _, one in sent))
        told = [one for mine, one in sent if mine]
        (cut,) = [one for one in told if one["type"] == "conversation.item.truncate"]
        assert any(one["type"] == "response.cancel" for one in told) and 0 < cut["audio_end_ms"] < 3000
        (done, *_) = [one["response"] for mine, one in sent if not mine and one["type"] == "response.done"]
        assert done["status"] == "cancelled"
        page.locator("#hang").click()
        page.wait_for_selector("#text", state="visible")
        until(page, lambda: service.taken == 0)
        assert page.locator(".problem").count() == 0


def test_hands_free_who_speaks_is_answered_and_breaks_answers_off(talking, microphone):
    address, service = talking
    with opened(address, f"--use-file-for-fake-audio-capture={microphone}", **PHONE) as page:
        sent = frames(page)
        comes(page, "document.querySelector('#model').textContent === 'tiny'")
        set_up(page, temperature="1.3", tokens="4000")
        page.locator("#speak").click()
        page.wait_for_selector("#state:has-text('Hold the button and speak')")
        page.locator("#free").check()
        until(page, lambda: any(one["type"] == "response.done" for _, one in sent), 90)
        kinds = [one["type"] for mine, one in sent if not mine]
        first = kinds.index("response.created")
        assert kinds.index("input_audio_buffer.speech_started") < kinds.index("input_audio_buffer.committed") < first
        # The microphone plays on: the next speech breaks off the answer.
        done = next(one["response"] for _, one in sent if one["type"] == "response.done")
        assert done["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        page.wait_for_selector(".turn.assistant .note:has-text('broken off')")
        keep(page, "voice-phone")
        page.locator("#hang").click()
        page.wait_for_selector("#text", state="visible")
        until(page, lambda: service.taken == 0)
        assert page.locator(".problem").count() == 0
