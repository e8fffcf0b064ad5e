"""A rewriting that is killed and started again gives the same bytes, and nothing is asked twice."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from mmpt.config import parse_config
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import from_lines
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Image, Text
from mmpt.inference.rewriting import Rewriting, rewrite

from .test_writers import Stub, chat

ROOT = Path(__file__).parents[2]
WORDS = "the sun is a star and all the planets go around it year after year in the dark"


def answered(body: dict) -> dict:
    """Another text for each prompt; too short for one in five."""
    number = int(hashlib.sha256(body["messages"][0]["content"].encode()).hexdigest(), 16)
    return chat("no" if number % 5 == 0 else f"in other words {number % 997} things go around the star in the middle of it all")


def slowly(body: dict) -> dict:
    time.sleep(0.02)
    return answered(body)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "set"
    with ShardWriter(folder, built={}, max_documents=9) as writer:
        for number in range(60):
            parts = (Text(f"{WORDS} {number}.\n\n{WORDS} {number % 7}.\n"), Image(b"x", "png", 1, 1), Text("short"))
            writer.write(Document(f"d{number}", "test", parts if number % 4 else parts[1:]))
    return folder


def rewriting(url: str) -> Rewriting:
    content = {
        "operation": {"kind": "rephrase", "least_words": 10, "max_words": 20},
        "writer": {"kind": "server", "url": url, "model": "m", "batch": 4, "first_wait": 0},
    }
    return parse_config(content, Rewriting, "test")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def asked(stub: Stub) -> Counter:
    return Counter(body["messages"][0]["content"] for _, body, _ in stub.asked)


def test_documents_come_in_order_beside_their_copies_and_bad_answers_are_counted(source, tmp_path):
    stub = Stub((200, answered))
    with stub.running() as url:
        summary = rewrite(rewriting(url), str(source), str(tmp_path / "out"))
        again = rewrite(
            rewriting(url), str(source), str(tmp_path / "again"), tmp_path / "out.answers.sqlite", RunConfig(processes=2)
        )
    assert content(tmp_path / "out") == content(tmp_path / "again") and summary.lost == again.lost
    assert set(asked(stub).values()) == {1}, "also what several documents say is asked once"
    assert len(stub.asked) == len({n for n in range(60) if n % 4} | set(range(7)))
    found = list(DocumentShards(tmp_path / "out"))
    assert [one.id for one in found if one.id.count("/") == 0] == [f"d{number}" for number in range(60)]
    lost = from_lines((tmp_path / "out" / "lost.jsonl").read_bytes())
    prompts = asked(stub)
    bad = {text for text in prompts if answered({"messages": [{"content": text}]})["choices"][0]["message"]["content"] == "no"}
    assert bad and sum(one.rule == "answer_length" for one in lost) == sum(
        any(passage in text for text in bad)
        for number in range(60) if number % 4
        for passage in (f"{WORDS} {number}.", f"{WORDS} {number % 7}.")
    )  # fmt: skip
    for copy in (one for one in found if one.id.endswith("/medium")):
        assert [type(part) for part in copy.parts] == [Text, Image, Text] and copy.parts[2] == Text("short")
        assert copy.meta["rewritten"]["from"] == copy.id.removesuffix("/medium")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["lost"] == summary.lost and manifest["built"]["rewrite"]["writer"]["model"] == "m"


@pytest.mark.slow
def test_killed_and_started_again_it_gives_the_same_bytes(source, tmp_path):
    spec = tmp_path / "spec.yaml"
    out = tmp_path / "killed"
    command = [sys.executable, str(ROOT / "datasets" / "rewrite.py"), str(spec), str(source), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    stub = Stub((200, slowly))
    with stub.running() as url:
        spec.write_text(json.dumps(rewriting(url).model_dump(mode="json")))
        kills = 0
        while True:
            before = len(stub.asked)
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            while process.poll() is None and (kills >= 3 or len(stub.asked) < before + 9):
                time.sleep(0.005)
            if process.poll() is not None:
                assert process.returncode == 0, process.stderr.read()
                break
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        times = asked(stub)
        rewrite(rewriting(url), str(source), str(tmp_path / "whole"))
    assert kills == 3 and sum(times.values()) - len(times) <= 3 * 4, "no more than the batch it was killed in"
    assert content(out) == content(tmp_path / "whole")
