"""Files of requests: answered as the server answers them, each once whatever happens, no line the end of the others."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmpt.cli import main
from mmpt.errors import ConfigError
from mmpt.inference.batch.answers import answers
from mmpt.inference.batch.requests import lines

from .asking import data_url, post, user, wav
from .live import serving
from .tiny import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
URL = "/v1/chat/completions"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


def request(name: str, **body) -> dict:
    return {"custom_id": name, "method": "POST", "url": URL, "body": {"max_tokens": 40, **body}}


def says(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def write(path: Path, *requests: dict | str) -> Path:
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in requests), encoding="utf-8")
    return path


def command(monkeypatch, *words: object) -> int:
    monkeypatch.setattr(sys, "argv", ["mmpt", "generate", *map(str, words)])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def read(folder: Path) -> dict[int, dict]:
    found = [json.loads(line) for line in (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()]
    numbers = [int(line["id"].removeprefix("batch_req_")) for line in found]
    assert len(set(numbers)) == len(numbers), "a line is answered twice"
    return dict(zip(numbers, found, strict=True))


def what(body: dict) -> dict:
    """An answer without what is of its time."""
    body = {key: value for key, value in body.items() if key not in ("id", "created", "model")}
    for choice in body.get("choices", []):
        choice["message"].pop("id")
        for key in ("id", "expires_at"):
            (choice["message"].get("audio") or {}).pop(key, None)
    return body


def test_a_batch_is_answered_as_the_server_answers(run, model, tmp_path, monkeypatch):
    picture = data_url()
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.png").write_bytes(base64.b64decode(picture.partition(",")[2]))
    (tmp_path / "a.wav").write_bytes(base64.b64decode(wav()))

    def seen(url: str, sound: str) -> list[dict]:
        image = {"type": "image_url", "image_url": {"url": url}}
        return user({"type": "text", "text": "the red"}, image, {"type": "input_audio", "input_audio": {"data": sound}})

    hot = {"temperature": 1.3, "max_tokens": 150}
    bodies = [{"messages": says(f"the {number}"), "seed": number, **hot} for number in range(6)]
    bodies += [{"messages": says("a"), "top_k": -1}, {"messages": says("a"), "model": "another"}]
    asked = [request(str(number), **body) for number, body in enumerate(bodies)]
    asked += [request("media", messages=seen("file:media/a.png", "file:a.wav"), **hot)]
    bodies += [{"messages": seen(picture, wav()), **hot}]
    batch = write(tmp_path / "batch.jsonl", *asked)
    assert command(monkeypatch, run, "--batch", batch, "--out", tmp_path / "files") == 0
    assert command(monkeypatch, run, "--batch", batch, "--out", tmp_path / "inline", "--inline") == 0
    files, inline = read(tmp_path / "files"), read(tmp_path / "inline")
    assert not list((tmp_path / "inline" / "media").iterdir())
    kinds = set()
    with serving(model) as (address, _):
        for number, body in enumerate(bodies, 1):
            reply = post(address, **{"max_tokens": 40, **body})
            found = inline[number]
            assert found["custom_id"] == asked[number - 1]["custom_id"] and found["error"] is None
            assert found["response"]["status_code"] == files[number]["response"]["status_code"] == reply.status_code
            if reply.status_code != 200:
                said = found["response"]["body"]["error"]["message"]
                assert said.partition("this server")[0] == reply.json()["error"]["message"].partition("this server")[0]
                continue
            assert _exact(found["response"]["body"]) == _exact(reply.json())
            kinds |= _check_files(tmp_path / "files", files[number]["response"]["body"], found["response"]["body"])
    assert kinds == {"image_url", "input_audio"}
    assert [files[number]["response"]["status_code"] for number in (7, 8, 9)] == [400, 404, 200]


def _exact(body: dict) -> dict:
    """Sound decoded in another process is rounded otherwise: of it the ids and the length count."""
    body = what(json.loads(json.dumps(body)))
    for choice in body["choices"]:
        for place in [choice["message"].get("audio"), *(part.get("input_audio") for part in choice["message"]["parts"])]:
            if place:
                place["data"] = len(place["data"])
    return body


def _check_files(folder: Path, filed: dict, inline: dict) -> set[str]:
    kinds = set()
    message, whole = filed["choices"][0]["message"], inline["choices"][0]["message"]
    for own, other in zip(message["parts"], whole["parts"], strict=True):
        for key, name in (("image_url", "url"), ("input_audio", "data")):
            if key in own:
                kinds.add(key)
                data = (folder / own[key][name].removeprefix("file:")).read_bytes()
                assert data[:4] == base64.b64decode(other[key][name].rpartition(",")[2])[:4] in (b"\x89PNG", b"RIFF")
    if "audio" in message:
        assert (folder / message["audio"]["data"].removeprefix("file:")).read_bytes()[:4] == b"RIFF"
    return kinds


def test_an_answer_with_files_goes_into_the_next_batch(run, tmp_path, monkeypatch):
    hot = {"temperature": 1.3, "max_tokens": 150, "seed": 1}
    batch = write(tmp_path / "one.jsonl", request("a", messages=says("the red"), **hot))
    assert command(monkeypatch, run, "--batch", batch, "--out", tmp_path / "out") == 0
    message = read(tmp_path / "out")[1]["response"]["body"]["choices"][0]["message"]
    assert any("file:" in json.dumps(part) for part in message["parts"])
    again = write(tmp_path / "out" / "two.jsonl", request("b", messages=[*says("the red"), message, *says("more")]))
    assert command(monkeypatch, run, "--batch", again, "--out", tmp_path / "next") == 0
    assert read(tmp_path / "next")[1]["response"]["status_code"] == 200


def test_a_bad_line_is_an_error_of_its_own(run, tmp_path, monkeypatch):
    folder = tmp_path / "batch"
    folder.mkdir()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(folder / "pipe.png")

    def picture(name: str) -> dict:
        return request(name, messages=user({"type": "image_url", "image_url": {"url": f"file:{name}"}}))

    outside = [
        picture(name) for name in ("../secret.png", str(tmp_path / "secret.png"), "link.png", "pipe.png", "none.png", "\0")
    ]
    wrong = {
        "{": "not valid JSON",
        "[1]": "expected an object",
        "[" * 100_000: "not valid JSON",
        json.dumps({**request("a", messages=says("a")), "url": "/v1/embeddings"}): "url: expected /v1/chat/completions",
        json.dumps({**request("a", messages=says("a")), "method": "GET"}): "method: expected POST",
        json.dumps({**request("a", messages=says("a")), "more": 1}): "more: not known",
        json.dumps({"custom_id": 3, "url": URL, "body": {}}): "custom_id: expected a text",
        json.dumps({"custom_id": "x", "url": URL, "body": []}): "body: expected an object",
        json.dumps(request("x", messages=says("a"), stream=True)): "body.stream",
        **{json.dumps(one): "no such file in the folder of the batch file" for one in outside},
    }
    batch = write(folder / "a.jsonl", *wrong, "", request("last", messages=says("a")), request("odd", messages=7))
    assert command(monkeypatch, run, "--batch", batch, "--out", tmp_path / "out") == 0
    found = read(tmp_path / "out")
    for number, reason in enumerate(wrong.values(), 1):
        assert found[number]["response"] is None and reason in found[number]["error"]["message"], found[number]
    assert found[10]["custom_id"] == "../secret.png"
    good, odd = len(wrong) + 2, len(wrong) + 3  # a blank line is none
    assert set(found) == {*range(1, len(wrong) + 1), good, odd}
    assert found[good]["response"]["status_code"] == 200 and found[odd]["response"]["status_code"] == 400


def test_a_line_without_end_takes_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("mmpt.inference.batch.requests.LINE", 1000)
    path = tmp_path / "a"
    path.write_bytes(b"x" * 5000 + b"\n\n" + b"y" * 1000 + b"\n" + b"z")
    assert [(number, len(line)) for number, line in lines(path)] == [(1, 1001), (3, 1001), (4, 1)]


def test_a_torn_line_is_mended_and_no_line_is_lost_or_twice(tmp_path):
    def opened():
        return answers(tmp_path, {"batch": "a"}, True)

    with opened() as found:
        found.add(3, "three", 200, {"choices": []})
        found.refuse(1, None, "no")
        with pytest.raises(ConfigError, match="another process"), opened():
            pass
    whole = (tmp_path / "answers.jsonl").read_bytes()
    for cut in range(len(whole) + 1):
        (tmp_path / "answers.jsonl").write_bytes(whole[:cut])
        with opened() as found:
            assert found.done == {3, 1} if cut == len(whole) else found.done == ({3} if b"\n" in whole[:cut] else set())
            for number in {1, 3} - found.done:
                found.add(number, "again", 200, {})
        assert set(read(tmp_path)) == {1, 3}
    with (
        pytest.raises(ConfigError, match="answers of another batch.*batch was 'a', is 'b'"),
        answers(tmp_path, {"batch": "b"}, True),
    ):
        pass


KILLED = 24


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_goes_on(run, tmp_path):
    batch = write(tmp_path / "a.jsonl", *(request(str(n), messages=says(f"{n}"), return_token_ids=True) for n in range(KILLED)))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WARM_CHILDREN": "1"}
    mmpt, words = [os.environ["WARM_PYTHON"], "-m", "mmpt.cli"], ["generate", str(run), "--batch", str(batch), "--running", "2"]
    first = [*mmpt, *words, "--out", str(tmp_path / "out")]
    path, seen, kills = tmp_path / "out" / "answers.jsonl", 0, 0
    while kills < 2:
        process = subprocess.Popen(first, env=environment, stdout=subprocess.DEVNULL)
        begun = time.monotonic()
        while process.poll() is None and (path.read_bytes().count(b"\n") if path.is_file() else 0) < seen + 5:
            assert time.monotonic() - begun < 120
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        assert path.read_bytes().count(b"\n") >= seen, "an answer is lost"
        seen = path.read_bytes().count(b"\n")
    assert 10 <= seen < KILLED
    before = read_whole(path)
    assert subprocess.run(first, env=environment, timeout=120).returncode == 0
    found = read(tmp_path / "out")
    assert set(found) == set(range(1, KILLED + 1)) and read_whole(path)[: len(before)] == before
    # Once as a person starts it.
    subprocess.run([sys.executable, *mmpt[1:], *words[:-2], "--out", str(tmp_path / "at-once")],
                   env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120, check=True)  # fmt: skip
    assert {n: ids(line) for n, line in found.items()} == {n: ids(line) for n, line in read(tmp_path / "at-once").items()}


def read_whole(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


def ids(line: dict) -> list[int]:
    return line["response"]["body"]["choices"][0]["token_ids"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--text", "a"], "--batch goes without a prompt"),
        (["--seed", 3, "--top-p", 0.5], "--batch goes without --top-p, --seed"),
        (["--running", 0], "expected 1 or more"),
    ],
)
def test_what_does_not_go_with_a_batch_is_told_at_once(words, said, tmp_path, monkeypatch, capsys):
    batch = write(tmp_path / "a.jsonl", request("a", messages=says("a")))
    assert command(monkeypatch, tmp_path / "none", "--batch", batch, *words) == 2
    assert said in capsys.readouterr().err
    assert command(monkeypatch, tmp_path / "none", "--batch", tmp_path / "nothing.jsonl") == 2
    assert "cannot be read" in capsys.readouterr().err
