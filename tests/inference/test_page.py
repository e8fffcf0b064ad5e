"""The page in a browser: type, drop pictures and a sound, record, see and hear the answer, be told what went wrong."""

import httpx
import PIL.Image
import pytest

from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits
from mmpt.media import encode_png

from .browser import CHROMIUM, PHONE, ask, comes, drop, files, keep, opened
from .live import serving
from .tiny import write_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    model = load(write_checkpoint(tmp_path_factory.mktemp("tiny")))
    with serving(model, Limits(sound=5.0)) as (found, _):
        yield found


@pytest.fixture
def page(address):
    with opened(address) as found:
        yield found


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
