"""The page in a browser: type, drop pictures and a sound, talk, see and hear the answer, be told what went wrong.

Screenshots are kept in the folder that MMPT_SCREENSHOTS names, where it is set.
"""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import PIL.Image
import pytest

from mmpt.chat import ChatConfig
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits
from mmpt.media import decode_speech, encode_png, encode_wav

from .live import serving
from .tiny import write_checkpoint

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


SHARED = Path(__file__).parents[3] / "shared" / "data" / "librispeech" / "LibriSpeech" / "test-clean"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    model = load(write_checkpoint(tmp_path_factory.mktemp("tiny")))
    with serving(model, Limits(sound=5.0)) as (found, _):
        yield found


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    """A model of turns that speaks while it writes, and so is sure to speak, and does not end by itself: (address, service)."""
    chat = ChatConfig(template="plain", alternate=(3, 8))
    model = load(write_checkpoint(tmp_path_factory.mktemp("tiny"), chat=chat))
    with serving(model, Limits()) as found:
        yield found


@pytest.fixture(scope="module")
def microphone(tmp_path_factory) -> Path:
    """What the browser's microphone hears over and over: silence, somebody who speaks, silence."""
    file = next(iter(sorted(SHARED.rglob("*.flac"))), None) if SHARED.is_dir() else None
    if file is None:
        with Speaker() as speaker:
            said = decode_speech(read_aloud(speaker, "a large blue circle on the left of a red square", "en-us").data)
    else:
        said = decode_speech(file.read_bytes())
    quiet = np.zeros(16_000, dtype=np.float32)
    path = tmp_path_factory.mktemp("microphone") / "speech.wav"
    path.write_bytes(encode_wav(np.concatenate([quiet, said[: 3 * 16_000], quiet]), 16_000))
    return path


@contextmanager
def opened(address: str, *flags: str, **options):
    """The page in a browser, in which no script has failed and nothing was asked of another place or refused by the policy."""
    from playwright.sync_api import sync_playwright

    flags = ("--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--use-fake-ui-for-media-stream",
             "--use-fake-device-for-media-stream", *flags)  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(flags))
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, "permissions": ["microphone"], **options})
        page = context.new_page()
        problems, asked = [], []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda line: problems.append(line.text) if "Content Security Policy" in line.text else None)
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        yield page
        browser.close()
        assert not problems
        assert all(url.startswith((address, "data:", "blob:")) for url in asked)


@pytest.fixture
def page(address):
    with opened(address) as found:
        yield found


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
    comes(page, "document.querySelector('#model').textContent === 'tiny'")
    drop(page, *files(tmp_path))
    comes(page, "document.querySelectorAll('#attached figure').length === 2")
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
    comes(page, "document.querySelectorAll('.turn.assistant .note').length >= 2")
    assert page.locator(".turn").count() == 4 and page.locator(".problem").count() == 0
    page.locator("summary").click()
    page.locator("#history").check()
    page.locator("summary").click()
    ask(page, "once more", seed="3")
    comes(page, "document.querySelectorAll('.turn.assistant .note').length >= 3")
    assert sent == [1, 5]
    keep(page, "second-turn")


def test_parts_are_sent_in_the_order_that_the_box_and_the_arrows_say(page, tmp_path):
    sent = []
    page.on("request", lambda request: sent.append(request.post_data_json) if request.post_data else None)
    for number, turned in enumerate((False, True)):
        drop(page, *files(tmp_path))
        comes(page, "document.querySelectorAll('#attached figure').length === 2")
        if turned:
            page.locator("#attached figure").nth(1).locator("button[title=Earlier]").click()
            page.locator("summary").click()
            page.locator("#first").uncheck()
            page.locator("summary").click()
        ask(page, "the", tokens="1")
        comes(page, f"document.querySelectorAll('.turn.assistant .note').length > {number}")
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


def test_several_pictures_in_one_message_stand_side_by_side(page, tmp_path):
    sent = []
    page.on("request", lambda request: sent.append(request.post_data_json) if request.post_data else None)
    pictures = []
    for colour in ("red", "green", "blue"):
        pictures.append(tmp_path / f"{colour}.png")
        pictures[-1].write_bytes(encode_png(PIL.Image.new("RGB", (60, 40), colour)))
    drop(page, *pictures)
    comes(page, "document.querySelectorAll('#attached figure').length === 3")
    assert [img.get_attribute("alt") for img in page.locator("#attached img").all()] == ["red.png", "green.png", "blue.png"]
    ask(page, "these", tokens="4")
    page.wait_for_selector(".turn.assistant .note")
    assert [part["type"] for part in sent[0]["messages"][-1]["content"]] == ["text", *["image_url"] * 3]
    assert page.locator(".turn.user .pictures img").count() == 3


def test_conversations_are_kept_in_the_browser(page, tmp_path):
    drop(page, files(tmp_path)[0])
    page.wait_for_selector("#attached figure")
    ask(page, "<b>the first</b>", tokens="12")
    page.wait_for_selector(".turn.assistant .note")
    page.locator("#new").click()
    assert page.locator(".turn").count() == 0
    ask(page, "the second", tokens="12")
    page.wait_for_selector(".turn.assistant .note")
    page.reload()
    comes(page, "document.querySelectorAll('#conversations li').length === 2")
    rows = page.locator("#conversations .open")
    # Text is text: nothing of it became an element.
    assert rows.all_inner_texts() == ["the second", "<b>the first</b>"] and page.locator("#conversations b, #talk b").count() == 0
    rows.nth(1).click()
    page.wait_for_selector(".turn.user img")
    assert page.locator(".turn.user").inner_text() == "<b>the first</b>" and page.locator(".turn").count() == 2
    page.locator("#conversations .delete").nth(1).click()
    comes(page, "document.querySelectorAll('#conversations li').length === 1")
    assert page.locator(".turn").count() == 0
    page.reload()
    page.wait_for_selector("#conversations li")
    assert page.locator("#conversations li").count() == 1


def test_every_control_has_a_name(page):
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, textarea, summary, meter, audio[id]")].filter((one) =>
            !(one.getAttribute("aria-label") || one.textContent.trim() || one.closest("label")?.textContent.trim())
        ).map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_nothing_is_run_that_the_package_did_not_bring(page, address):
    policy = httpx.get(address).headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    # A script in the page, and text that would become HTML, are both refused.
    refused = page.evaluate(
        """async () => {
            const refused = [];
            addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
            try { document.body.innerHTML += "<img src=x onerror=alert(1)>"; refused.push("taken"); }
            catch { refused.push("thrown"); }
            await new Promise((go) => setTimeout(go, 100));
            return refused;
        }"""
    )
    assert "thrown" in refused and "taken" not in refused
    for path in ("..%2fapi.py", "index.html%00", "style.css/x", "none.js"):
        assert httpx.get(f"{address}/static/{path}").status_code == 404


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


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_telephone(address, tmp_path, scheme):
    with opened(address, **PHONE, color_scheme=scheme) as page:
        comes(page, "document.querySelector('#model').textContent === 'tiny'")
        drop(page, *files(tmp_path))
        comes(page, "document.querySelectorAll('#attached figure').length === 2")
        ask(page, "the red circle above a blue square", temperature="1.3", tokens="90", seed="0")
        page.wait_for_selector(".turn.assistant .note:has-text('tokens')", timeout=60_000)
        keep(page, f"phone-{scheme}")
        # Nothing is wider than the screen, and what is touched is large enough to be.
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        small = page.evaluate(
            """() => [...document.querySelectorAll("button, summary")].filter((one) => one.offsetParent
                && getComputedStyle(one).visibility === "visible" && one.getBoundingClientRect().height < 44
            ).map((one) => one.outerHTML)"""
        )
        assert small == []
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(21, 24, 27)"
        assert dark == (scheme == "dark")
        page.locator("#menu").tap()
        page.wait_for_timeout(300)
        keep(page, f"phone-menu-{scheme}")
        assert page.locator("#menu").get_attribute("aria-expanded") == "true"
        page.locator("#conversations .open").first.tap()
        page.wait_for_selector("#shade", state="hidden")
        page.locator("summary").tap()
        keep(page, f"phone-settings-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375


PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
LASTS = """async (sound) => {
    if (!(sound.duration > 0)) await new Promise((go) => sound.addEventListener("loadedmetadata", go));
    return sound.duration;
}"""


def set_up(page, **fields: str) -> None:
    page.locator("summary").click()
    for name, value in fields.items():
        page.locator(f"#{name}").fill(value)
    page.locator("summary").click()


def hold(page, seconds: float) -> None:
    box = page.locator("#hold").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.wait_for_timeout(1000 * seconds)
    page.mouse.up()


def frames(page) -> list[tuple[bool, dict]]:
    """What goes over the page's websocket from now on: (whether the page said it, the event)."""
    found: list[tuple[bool, dict]] = []

    def watch(socket) -> None:
        socket.on("framesent", lambda text: found.append((True, json.loads(text))))
        socket.on("framereceived", lambda text: found.append((False, json.loads(text))))

    page.on("websocket", watch)
    return found


def comes(page, expression: str) -> None:
    """Until a JavaScript expression holds. Playwright's own way runs text as a script, which the page's policy refuses."""
    until(page, lambda: page.evaluate(expression), 60)


def until(page, what, seconds: float = 30.0) -> None:
    for _ in range(int(seconds * 20)):
        if what():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come to pass")
