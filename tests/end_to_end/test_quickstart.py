"""The whole way at toy size: corpus, tokenizers, tokens, two trainings on two ranks, evaluation, report, generation."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmpt.data.shards.read import DocumentShards, TokenShards
from mmpt.document import Image
from mmpt.media import decode_image, decode_speech

pytestmark = pytest.mark.ranks

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = os.environ["WARM_PYTHON"]
FIGURES = (
    "seconds",
    "peak_rss_gib",
    "speech_to_text_wer",
    "text_to_speech_wer",
    "image_to_text_accuracy",
    "text_to_image_accuracy",
    "speech_codebook_used",
    "image_codebook_used",
)


def start(folder: Path) -> subprocess.Popen:
    """In an interpreter that has imported the libraries; so are all processes that it starts, torchrun's ranks among them."""
    command = [PYTHON, ROOT / "recipes" / "quickstart.py", ROOT / "tests" / "end_to_end" / "tiny.yaml", f"run={folder}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process: subprocess.Popen) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output
    return output


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A finished run that was interrupted in its pretraining and started again."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    process = start(folder)
    while not (folder / "pretrain" / "metrics.jsonl").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert json.loads((folder / "stages.json").read_text())["pretrain"]["done"] is False
    finish(start(folder))
    return folder


def test_metrics_and_report(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert set(FIGURES) <= set(metrics)
    assert metrics["seconds"] == pytest.approx(sum(metrics["stages"].values()), abs=0.1)
    page = (run / "report.html").read_text()
    assert "<audio" in page and "data:image/png" in page and "data:image/svg+xml" in page
    assert 'src="http' not in page and "href=" not in page  # self-contained


def test_pretraining_went_on_where_it_was(run):
    steps = [json.loads(line)["step"] for line in (run / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 10
    assert all("data:image" in (run / name / "report.html").read_text() for name in ("pretrain", "finetune"))


def test_a_second_run_skips_what_is_done(run):
    before = {path: path.stat().st_mtime_ns for path in (run / "finetune").rglob("*") if path.is_file()}
    began = time.monotonic()
    finish(start(run))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert time.monotonic() - began < 60


def test_tokens_decode_to_what_was_encoded(run):
    tokens = TokenShards(run / "tokens" / "pretrain")
    kinds = {tuple(kind for kind, _ in tokens.vocabulary.split(tokens[i].ids.tolist())) for i in range(4)}
    assert kinds == {("text", "speech"), ("image", "text")}


def generate(*arguments: object, python: str = PYTHON) -> subprocess.CompletedProcess:
    command = [python, "-m", "mmpt.cli", "generate", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_generate_writes_pictures_and_sounds_and_reads_them(run, tmp_path):
    model = run
    done = generate(model, "--text", "draw a small red circle", "--to", "image", "--out", tmp_path, "--max-tokens", 12)
    assert done.returncode == 0, done.stderr
    assert decode_image((tmp_path / "answer-0.png").read_bytes()).size == (64, 64)
    options = ("--to", "speech", "--max-tokens", 20, "--temperature", 1, "--seed", 3, "--out", tmp_path)
    done = generate(model, "--text", "say", "--image", tmp_path / "answer-0.png", *options)
    assert done.returncode == 0, done.stderr
    sound = tmp_path / done.stdout.split("\n")[0].split("/")[-1]
    assert len(decode_speech(sound.read_bytes())) > 0
    done = generate(model, "--speech", sound, "--text", "transcribe", "--to", "text", "--max-tokens", 8)
    assert done.returncode == 0 and done.stdout.strip()


@pytest.mark.parametrize(
    ("arguments", "message", "python"),
    [
        (("RUN",), "the prompt is empty", PYTHON),
        (("RUN", "--image", "none.png"), "none.png: no such file", PYTHON),
        (("none", "--text", "x"), "none: no such folder", PYTHON),
        (("RUN/shards", "--text", "x"), "neither a checkpoint", sys.executable),  # once as a person starts it
    ],
    ids=["empty", "no picture", "no folder", "no checkpoint"],
)
def test_mistakes_give_exit_code_2_and_a_short_message(run, arguments, message, python):
    done = generate(*(argument.replace("RUN", str(run)) for argument in arguments), python=python)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_an_unknown_key_is_named(run):
    command = [sys.executable, ROOT / "recipes" / "quickstart.py", ROOT / "tests" / "end_to_end" / "tiny.yaml", "rnaks=2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "rnaks: unknown key" in done.stderr and "Traceback" not in done.stderr


def test_a_language_model_gives_codes_for_the_captions_of_pictures(run, tmp_path):
    """Under the ids of encode.py, codes of a picture each, others by another seed; a prompt without a place for it is no use."""
    shards = run / "shards" / "train"

    def codes(name: str, *options: object) -> list[dict]:
        command = [PYTHON, ROOT / "tokenizers" / "generate.py", run, shards, tmp_path / name, "--limit", "5", *map(str, options)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in (tmp_path / name / "codes.jsonl").open()]

    first, other = codes("first", "--prompt", "draw {}"), codes("other", "--prompt", "draw {}", "--seed", 1)
    ids = [f"{d.id}/{i}" for d in DocumentShards(shards) for i, part in enumerate(d.parts) if isinstance(part, Image)][:5]
    vocabulary = TokenShards(run / "tokens" / "pretrain").vocabulary
    for lines in (first, other):
        assert [line["id"] for line in lines] == ids
        assert all(len(line["codes"]) == vocabulary.codes_per_image for line in lines)
        assert all(0 <= code < vocabulary.image_codes for line in lines for code in line["codes"])
    assert first != other
    command = [PYTHON, ROOT / "tokenizers" / "generate.py", run, shards, tmp_path / "no", "--prompt", "draw"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "expected {}" in done.stderr and not (tmp_path / "no").exists()
