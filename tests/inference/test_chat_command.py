"""A conversation in the terminal: what is remembered, how it is stopped, and that it can be read again."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from mmpt.chat import ChatConfig
from mmpt.cli import main
from mmpt.document import Speech, Text
from mmpt.errors import ConfigError
from mmpt.inference.conversation import read_messages
from mmpt.inference.engine import write_all
from mmpt.inference.events import TextDelta
from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.request import ChatRequest
from mmpt.inference.talk import Talk
from mmpt.media import encode_png, encode_wav

from .tiny import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
HOT = {"temperature": 1.3, "max_new_tokens": 120}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def marked(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("marked"), chat=ChatConfig(template="plain")))


def typed(monkeypatch, capsys, run: Path, *lines: str, options=()) -> tuple[str, str]:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    monkeypatch.setattr(sys, "argv", ["mmpt", "chat", str(run), *map(str, options)])
    main()
    return capsys.readouterr()


def spoken(talk: Talk) -> Talk:
    """With an answer that has more than text in it."""
    for seed in range(40):
        talk.set("seed", seed)
        list(talk.ask([Text("the red")]))
        if {type(part) for part in talk.turns[-1].parts} >= {Text, Speech}:
            return talk
        talk.undo()
    raise AssertionError("no such answer")


def in_parts(model, ids) -> list[list[int]]:
    """Each block with its marks, and the text between them."""
    vocabulary, found = model.tokenizer.vocabulary, [[]]
    for token in ids:
        if vocabulary.special("<|image|>") == token or vocabulary.special("<|speech|>") == token:
            found.append([])
        found[-1].append(token)
        if vocabulary.special("<|/image|>") == token or vocabulary.special("<|/speech|>") == token:
            found.append([])
    return [one for one in found if one]


def test_earlier_answers_stand_in_the_prompt_as_on_the_server(marked):
    talk = spoken(Talk(marked, dict(HOT)))
    answer = talk.turns[-1]
    sent = {"role": "assistant", "parts": []}
    for number, (part, ids) in enumerate(zip(answer.parts, in_parts(marked, answer.ids), strict=True)):
        own = {"index": number, "ids": ids}
        if isinstance(part, Text):
            sent["parts"].append({**own, "type": "text", "text": part.text})
        else:  # its ids count, not what it sounds or looks like
            sent["parts"].append({**own, "type": "image_url", "image_url": {"url": "data:"}})
    talk.turns.append(talk.turns[0]._replace(parts=[Text("and then?")]))
    messages = [{"role": "user", "content": "the red"}, sent, {"role": "user", "content": "and then?"}]
    asked = ChatRequest.model_validate({"messages": messages}).parts(Limits(), marked.tokenizer.chat)
    (one,), (other,) = marked.prompts([talk.prompt()]), marked.prompts([asked])
    assert one.ids == other.ids
    written = answer.ids
    assert any(one.ids[place : place + len(written)] == written for place in range(len(one.ids)))


def test_a_stopped_answer_is_what_was_there(marked):
    talk = Talk(marked, {**HOT, "outputs": ["text"], "seed": 1})
    answer = talk.ask([Text("the red")])
    shown = [next(answer) for _ in range(4)]
    answer.close()
    said = "".join(event.text for event in shown if isinstance(event, TextDelta))
    assert said and talk.turns[-1].parts == [Text(said)]
    list(talk.ask([Text("more")]))
    assert [turn.role for turn in talk.turns] == ["user", "assistant"] * 2
    stopped = talk.ask([Text("none")])
    next(stopped)
    stopped.close()
    talk.undo()
    nothing = Talk(marked, {"outputs": ["image"]})
    list(nothing.ask([Text("a")]))
    assert nothing.undo() and not nothing.turns and not nothing.undo()


def test_a_turn_reads_what_is_new_in_it_alone(marked, monkeypatch):
    talk, submitted = Talk(marked, {**HOT, "outputs": ["text"], "seed": 1}), []
    submit = talk.engine.submit

    def watched(prompt, settings):
        submitted.append(submit(prompt, settings))
        return submitted[-1]

    monkeypatch.setattr(talk.engine, "submit", watched)
    for question in ("the red circle is on the left of the green one", "and the blue one?", "and all of them?"):
        list(talk.ask([Text(question)]))
    assert submitted[0].reused == 0
    for before, now in pairwise(submitted):
        # The last token of an answer is written, not read.
        read, asked = [*before.prompt.ids, *before.ids[:-1]], now.prompt.ids
        same = next((n for n, (one, other) in enumerate(zip(read, asked, strict=False)) if one != other), len(read))
        assert now.reused == same >= len(before.prompt.ids)
    for one in submitted:
        assert one.ids == write_all(marked.engine(), [one.prompt], [one.settings])[0]


@pytest.mark.parametrize("stopped", ["between", "within"])
def test_after_a_stopped_answer_the_next_is_that_of_a_fresh_engine(marked, monkeypatch, stopped):
    given = {**HOT, "outputs": ["text"], "seed": 1}
    talk = Talk(marked, given)
    answer = talk.ask([Text("the red circle is on the left of the green one")])
    for _ in range(4):
        next(answer)
    if stopped == "between":
        answer.close()
    else:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("mmpt.inference.engine.choose", interrupted)
            list(answer)
    assert not talk.engine.busy
    other = Talk(marked, given, [*talk.turns])
    asked = [Text("and the blue one?")]
    assert [one.ids for one in talk.ask(asked)] == [one.ids for one in other.ask(asked)]


def interrupted(*_):
    raise KeyboardInterrupt


def test_what_is_said_is_saved_and_read_again(plain, tmp_path, monkeypatch, capsys):
    (tmp_path / "a.png").write_bytes(encode_png(Picture.new("RGB", (16, 16), "red")))
    (tmp_path / "a.wav").write_bytes(encode_wav(np.zeros(4800, dtype=np.float32), 16_000))
    saved = tmp_path / "saved" / "talk.json"
    lines = [
        f"/image {tmp_path}/a.png",
        f"/speech {tmp_path}/a.wav",
        "the red",
        "/settings seed=3",
        "//the",
        f"/save {saved}",
        "/undo",
        "/undo",
        "/undo",
        "/clear",
        f"/save {saved}",
        f"/save {tmp_path}/empty.json",
    ]
    options = ["--system", "be brief", "--out", tmp_path / "out"]
    said, wrong = typed(
        monkeypatch, capsys, plain, "/settings temperature=1.3", "/settings max_new_tokens=90", *lines, options=options
    )
    files = sorted((tmp_path / "out").iterdir())
    assert files and all(str(path) in said for path in files) and "no chat template" in wrong
    assert said.count("taken back") == 2 and "there is nothing to take back" in said and "is not overwritten" in wrong
    messages = json.loads(saved.read_text())
    assert [one["role"] for one in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert [part["type"] for part in messages[1]["content"]] == ["text", "image", "audio"]
    assert messages[3]["content"] == [{"type": "text", "text": "/the"}]
    (tmp_path / "saved" / "question.json").write_text(json.dumps([*messages, {"role": "user", "content": "more"}]))
    parts = read_messages(tmp_path / "saved" / "question.json")
    assert [part.text for part in parts if isinstance(part, Text)][:2] == ["be brief", "the red"]
    assert json.loads((tmp_path / "empty.json").read_text()) == [messages[0]]


def test_what_is_wrong_is_told_and_the_conversation_goes_on(plain, tmp_path, monkeypatch, capsys):
    lines = [
        "/image none.png",
        "/dance",
        "/settings temperature=-1",
        "/settings colour=red",
        "/settings sampler={kind: min_q}",  # noqa: E501
        "/settings sampler=[",
        "/save",
        "/say",
        "/settings top_k=3",
        "/settings sampler=min_p",
        "/settings top_k=",
        "/settings",
        "/help",
        "/settings max_new_tokens=3",
        "a",
    ]
    said, wrong = typed(monkeypatch, capsys, plain, *lines, options=["--out", tmp_path])
    reasons = [
        "no such file",
        "/dance: no such command",
        "text.temperature",
        "colour",
        "did you mean min_p",
        "not valid YAML",
        "/save:",
        "/say:",
        "it goes without top_k",
    ]
    errors = wrong.split("error:")[1:]
    assert len(errors) == len(reasons)
    for line, reason in zip(errors, reasons, strict=True):
        assert reason in line
    assert "nothing is set" in said and "/speech FILE" in said and "max_new_tokens: 3" in said


def test_settings_are_those_of_the_engine(marked):
    talk = Talk(marked)
    talk.set("outputs", ["text"])
    with pytest.raises(ConfigError):
        talk.set("outputs", [])
    assert talk.given == {"outputs": ["text"]}


@pytest.mark.slow
def test_ctrl_c_stops_the_answer_and_not_the_program(plain, tmp_path):
    pty = pytest.importorskip("pty")
    terminal, other = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path), "TERM": "dumb"}
    command = [os.environ["WARM_PYTHON"], "-m", "mmpt.cli", "chat", str(plain), "--out", str(tmp_path)]
    process = subprocess.Popen(
        command, stdin=other, stdout=other, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    os.close(other)
    seen = ""

    def until(pattern: str) -> None:
        nonlocal seen
        while not re.search(pattern, seen):
            seen += os.read(terminal, 65536).decode(errors="replace")
        seen = ""

    until("> ")
    for line in ("/settings outputs=[text]", "/settings max_new_tokens=4000", "/settings temperature=1.3"):
        os.write(terminal, line.encode() + b"\n")
        until(r"\n(.|\r|\n)*> ")
    os.write(terminal, b"the red\n")
    until(r"the red\r\n.")
    process.send_signal(signal.SIGINT)
    until(r"\[stopped\]\r\n(.|\r|\n)*> ")
    os.write(terminal, b"/undo\n")
    until("taken back(.|\r|\n)*> ")
    os.write(terminal, b"\x04")
    assert process.wait(30) == 0
    assert "/settings outputs=[text]" in (tmp_path / "mmpt" / "chat_history").read_text().replace("\\040", " ")
