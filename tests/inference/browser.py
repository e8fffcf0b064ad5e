"""The page in a headless browser with a microphone of its own.

Screenshots are kept in the folder that MMPT_SCREENSHOTS names, where it is set.
"""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image

from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.media import decode_speech, encode_png, encode_wav

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SHARED = Path(__file__).parents[3] / "shared" / "data" / "librispeech" / "LibriSpeech" / "test-clean"

PHONE = {"viewport": {"width": 375, "height": 740}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}

LASTS = """async (sound) => {
    if (!(sound.duration > 0)) await new Promise((go) => sound.addEventListener("loadedmetadata", go));
    return sound.duration;
}"""


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


def recorded(folder: Path) -> Path:
    """What the browser's microphone hears over and over: silence, somebody who speaks, silence."""
    file = next(iter(sorted(SHARED.rglob("*.flac"))), None) if SHARED.is_dir() else None
    if file is None:
        with Speaker() as speaker:
            said = decode_speech(read_aloud(speaker, "a large blue circle on the left of a red square", "en-us").data)
    else:
        said = decode_speech(file.read_bytes())
    quiet = np.zeros(16_000, dtype=np.float32)
    path = folder / "speech.wav"
    path.write_bytes(encode_wav(np.concatenate([quiet, said[: 3 * 16_000], quiet]), 16_000))
    return path


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
