"""The page in a browser: type, drop a picture and a sound, see and hear the answer, be told what went wrong.

Screenshots are kept in the folder that MMPT_SCREENSHOTS names, where it is set.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits
from mmpt.media import encode_png, encode_wav

from .live import serving
from .tiny import write_checkpoint

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    model = load(write_checkpoint(tmp_path_factory.mktemp("tiny")))
    with serving(model, Limits(sound=5.0)) as (found, _):
        yield found


@pytest.fixture
def page(address):
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    flags += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 900, "height": 900}, permissions=["microphone"])
        problems = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
        assert not problems


def keep(page, name: str) -> None:
    folder = os.environ.get("MMPT_SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"{name}.png")


def files(folder: Path) -> tuple[Path, Path]:
    picture, sound = folder / "red.png", folder / "tone.wav"
    picture.write_bytes(encode_png(PIL.Image.new("RGB", (60, 40), "red")))
    sound.write_bytes(encode_wav((0.4 * np.sin(np.arange(8000) / 12)).astype(np.float32), 16_000))
    return picture, sound


def drop(page, *paths: Path) -> None:
    """As a drag from the desktop does."""
    page.evaluate(
        """async (files) => {
            const transfer = new DataTransfer();
            for (const [name, type, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
        }""",
        [[path.name, {"png": "image/png", "wav": "audio/wav"}.get(path.suffix[1:], "text/plain"), list(path.read_bytes())]
         for path in paths],
    )  # fmt: skip


def ask(page, text: str, **fields: str) -> None:
    page.locator("summary").click()
    for name, value in fields.items():
        page.locator(f"#{name}").fill(value)
    page.locator("summary").click()
    page.locator("#text").fill(text)
    page.locator("#text").press("Enter")


def test_a_typed_prompt_with_a_picture_and_a_sound_is_answered_in_text_pictures_and_speech(page, tmp_path):
    page.wait_for_function("document.querySelector('#model').textContent === 'tiny'")
    drop(page, *files(tmp_path))
    page.wait_for_function("document.querySelectorAll('#attached figure').length === 2")
    keep(page, "attached")
    ask(page, "the red circle", temperature="1.3", tokens="90", seed="0")
    page.wait_for_selector(".turn.assistant .note:has-text('tokens')", timeout=60_000)
    keep(page, "answered")
    user, answer = page.locator(".turn.user"), page.locator(".turn.assistant")
    assert user.locator("img").count() == user.locator("audio").count() == 1 and "the red circle" in user.inner_text()
    assert answer.locator("img").count() >= 1 and answer.locator("audio").count() >= 1
    assert page.locator("#attached figure").count() == 0 and page.locator("#send").inner_text() == "Send"
    # The picture is there, and the sound can be played.
    assert answer.locator("img").first.evaluate("async (img) => { await img.decode(); return img.naturalWidth; }") == 16
    played = answer.locator("audio").first.evaluate(
        "async (sound) => { sound.muted = true; await sound.play(); await new Promise((go) => setTimeout(go, 300)); "
        "return [sound.currentTime, sound.duration]; }"
    )
    assert played[0] > 0 and played[1] > 0
    # What was said before goes along with the next question, where that is asked for.
    sent = []
    page.on("request", lambda request: sent.append(len(request.post_data_json["messages"])) if request.post_data else None)
    ask(page, "again", seed="2")
    page.wait_for_function("document.querySelectorAll('.turn.assistant .note').length >= 2", timeout=60_000)
    assert page.locator(".turn").count() == 4 and page.locator(".problem").count() == 0
    page.locator("summary").click()
    page.locator("#history").check()
    page.locator("summary").click()
    ask(page, "once more", seed="3")
    page.wait_for_function("document.querySelectorAll('.turn.assistant .note').length >= 3", timeout=60_000)
    assert sent == [1, 5]
    keep(page, "second-turn")


def test_parts_are_sent_in_the_order_that_the_box_and_the_arrows_say(page, tmp_path):
    sent = []
    page.on("request", lambda request: sent.append(request.post_data_json) if request.post_data else None)
    for number, turned in enumerate((False, True)):
        drop(page, *files(tmp_path))
        page.wait_for_function("document.querySelectorAll('#attached figure').length === 2")
        if turned:
            page.locator("#attached figure").nth(1).locator("button[title=Earlier]").click()
            page.locator("summary").click()
            page.locator("#first").uncheck()
            page.locator("summary").click()
        ask(page, "the", tokens="1")
        page.wait_for_function(f"document.querySelectorAll('.turn.assistant .note').length > {number}", timeout=60_000)
    kinds = [[part["type"] for part in one["messages"][-1]["content"]] for one in sent]
    assert kinds == [["text", "image_url", "input_audio"], ["input_audio", "image_url", "text"]]


def test_an_answer_can_be_stopped(page):
    ask(page, "the", temperature="1.0", tokens="4000")
    page.wait_for_selector("#send:has-text('Stop')")
    page.locator("#send").click()
    page.wait_for_selector("#send:has-text('Send')")
    assert page.locator(".problem").count() == 0


def test_what_goes_wrong_is_shown(page, tmp_path):
    note = tmp_path / "notes.txt"
    note.write_text("no medium")
    drop(page, note)
    page.wait_for_selector(".problem:has-text('neither a picture')")
    ask(page, "the red", tokens="100000")
    page.wait_for_selector(".problem:has-text('at most 4096 are written')")
    keep(page, "problems")
    ask(page, "the red", tokens="5")
    page.wait_for_selector(".turn.assistant .note")


def test_a_recording_is_attached(page):
    page.locator("#record").click()
    page.wait_for_selector("#record:has-text('Stop recording')")
    page.wait_for_timeout(700)
    page.locator("#record").click()
    page.wait_for_selector("#attached audio")
    ask(page, "what", tokens="8")
    page.wait_for_selector(".turn.assistant .note")
    assert page.locator(".problem").count() == 0
