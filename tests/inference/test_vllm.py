"""The grammar as a logits processor of vLLM writes the ids that the engine writes; `mmpt serve --engine` answers with them."""

import importlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
import types
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import uvicorn

from mmpt.commands.export import PROCESSOR
from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.inference.engine import Prompt, write_all
from mmpt.inference.load import load
from mmpt.inference.settings import Settings
from mmpt.inference.vllm.following import Followed, Following, parse_argument, to_argument
from mmpt.inference.vllm.model import connect, tokenizers_folder
from mmpt.model.checkpoints import find_checkpoint
from mmpt.model.export import export_hf
from mmpt.model.export_vllm import add_tokenizers
from mmpt.model.prompts import Prompts
from mmpt.storage import check_folder
from mmpt.vocabulary import Vocabulary

from . import fake_vllm
from .asking import post, user
from .live import serving
from .tiny import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]
HOT = {"temperature": 1.3}
ASKED = [
    Settings(max_new_tokens=90),
    Settings(max_new_tokens=90, text=HOT, image=HOT, speech=HOT, seed=1),
    Settings(max_new_tokens=60, text={"kind": "min_p", "min_p": 0.02, "temperature": 1.5}, image=HOT, seed=2),
    Settings(max_new_tokens=70, outputs=("text", "speech"), alternate=(3, 5), text=HOT, speech=HOT, seed=3),
    Settings(max_new_tokens=40, outputs=("image",)),
    Settings(max_new_tokens=25, outputs=("text",), text=HOT, seed=4),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "out"
    said = export_hf(find_checkpoint(run), out, vllm=True)
    assert any("codes/" in line for line in said)
    return out


@pytest.fixture(scope="module")
def model(run):
    return load(run)


@pytest.fixture
def processors(monkeypatch):
    fake_vllm.install(monkeypatch)
    return {
        name: importlib.import_module(f"mmpt.inference.vllm.{name}").GrammarProcessor for name in ("grammar_v1", "grammar_v2")
    }


def logits_of(model):
    def found(ids: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return model.model(torch.tensor([ids])).logits[0, -1].float()

    return found


def prompts(model) -> list[Prompt]:
    begin = model.tokenizer.vocabulary.special("<|begin|>")
    return [Prompt([begin, *range(3, 3 + number)]) for number in range(1, len(ASKED) + 1)]


def test_an_export_is_asked_as_its_checkpoint_was_trained_to_be(run, tmp_path):
    checkpoint = tmp_path / "trained"
    shutil.copytree(find_checkpoint(run), checkpoint)
    Prompts(speech="read aloud").save(checkpoint)
    add_tokenizers(checkpoint, tmp_path / "exported")
    assert Prompts.load(tokenizers_folder(tmp_path / "exported")) == Prompts(speech="read aloud")


def test_an_export_holds_all_that_its_codes_need(exported, run):
    check_folder(exported, "mmpt-export/1")
    assert {path.name for path in (exported / "codes").iterdir()} == {
        "text_tokenizer", "speech_tokenizer", "image_tokenizer", "vocabulary.json"}  # fmt: skip
    assert tokenizers_folder(exported) == exported / "codes" and tokenizers_folder(run) == find_checkpoint(run)
    with pytest.raises(CheckpointError, match="neither a checkpoint"):
        tokenizers_folder(exported.parent)
    with pytest.raises(ConfigError, match="without --keep-adapter"):
        export_hf(find_checkpoint(run), exported.parent / "other", keep_adapter=True, vllm=True)


def test_the_processors_import_nothing_that_vllm_lacks():
    """Where vLLM runs, mmpt is installed without what it depends on."""
    lacking = (
        "deepspeed",
        "peft",
        "open_clip",
        "timm",
        "librosa",
        "soundfile",
        "PIL",
        "webdataset",
        "fsspec",
        "rich",
        "transformers",
    )
    code = f"import sys\nfor name in {lacking}: sys.modules[name] = None\nimport mmpt.inference.vllm.following"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    module, _, name = PROCESSOR.split()[-1].partition(":")
    assert f"class {name}" in (ROOT / (module.replace(".", "/") + ".py")).read_text()


def test_what_is_asked_survives_the_way_and_nothing_else_is_taken():
    vocabulary = Vocabulary(300, "a", 16, 5, 16, 12.5)
    for settings in ASKED:
        assert parse_argument({"mmpt": to_argument(settings, 7, vocabulary)}) == (settings, 7, vocabulary.fingerprint)
    assert parse_argument(None) is None and parse_argument({"other": 1}) is None
    guided = to_argument(Settings(guidance=3), None, vocabulary)
    for wrong in ("", "{}", "[]", 3, '{"settings": {"seed": -1}, "end": null, "vocabulary": ""}', guided):
        with pytest.raises(ValueError, match="vllm_xargs.mmpt"):
            parse_argument({"mmpt": wrong})


def test_v1_writes_what_the_engine_writes(processors, exported, model):
    """Rows come, go and change places; a prompt that is read in two passes gets its first id twice."""
    processor = processors["grammar_v1"](fake_vllm.config(exported), torch.device("cpu"), False)
    found, next_logits, draw = {}, logits_of(model), random.Random(0)
    vocabulary, asked = model.tokenizer.vocabulary, prompts(model)
    waiting, rows = [*range(len(ASKED))], []  # rows: (number, written); a number of None asks for no grammar
    rows_added = [(0, fake_vllm.parameters(None), [1], [])]
    rows.append((None, rows_added[0][3]))
    update = types.SimpleNamespace(batch_size=1, removed=[], added=rows_added, moved=[])
    processor.update_state(update)
    while waiting or len(rows) > 1:
        removed, added, moved = [], [], []
        for row, (number, written) in reversed([*enumerate(rows)]):
            end = vocabulary.special("<|end|>")
            if number is not None and (written[-1:] == [end] or len(written) == ASKED[number].max_new_tokens):
                found[number] = [token for token in written if token != end]
                removed.append(row)
        for row in removed:  # the last takes the free place
            last = len(rows) - 1
            if row != last:
                rows[row] = rows[last]
                moved.append((last, row, fake_vllm.MoveDirectionality.UNIDIRECTIONAL))
            rows.pop()
        if waiting and len(rows) < 4:
            number = waiting.pop(0)
            rows.append((number, []))
            argument = to_argument(ASKED[number], None, vocabulary)
            added.append((len(rows) - 1, fake_vllm.parameters(argument), asked[number].ids, rows[-1][1]))
        if moved and added:  # vLLM fills free places first
            processor.update_state(types.SimpleNamespace(batch_size=0, removed=removed, added=[], moved=moved))
            processor.update_state(types.SimpleNamespace(batch_size=len(rows), removed=[], added=added, moved=[]))
        else:
            processor.update_state(types.SimpleNamespace(batch_size=len(rows), removed=removed, added=added, moved=moved))
        if len(rows) > 2 and draw.random() < 0.3:
            one, other = draw.sample(range(len(rows)), 2)
            rows[one], rows[other] = rows[other], rows[one]
            swap = (one, other, fake_vllm.MoveDirectionality.SWAP)
            processor.update_state(types.SimpleNamespace(batch_size=len(rows), removed=[], added=[], moved=[swap]))
        logits = torch.stack(
            [next_logits([*(asked[number].ids if number is not None else [1]), *written]) for number, written in rows]
        )
        own = logits.clone()
        forced = processor.apply(logits)
        for row, (number, written) in enumerate(rows):
            if number is None:
                assert torch.equal(forced[row], own[row])
                written.append(1) if len(written) < 300 else None
            elif written or draw.random() < 0.5:
                written.append(int(forced[row].argmax()))
    assert [found[number] for number in range(len(ASKED))] == write_all(model.engine(), asked, ASKED)


def test_v2_writes_what_the_engine_writes(processors, exported, model):
    """By slots that are used again, prompts in pieces, and an answer that begins anew in another slot in its middle."""
    slots, longest, vocabulary, asked = 3, 128, model.tokenizer.vocabulary, prompts(model)
    ids = torch.zeros(slots, longest, dtype=torch.int32)
    lengths = np.zeros(slots, dtype=np.int32)
    states = types.SimpleNamespace(
        device=torch.device("cpu"), prompt_len=types.SimpleNamespace(np=lengths), all_token_ids=types.SimpleNamespace(gpu=ids)
    )
    processor = processors["grammar_v2"](fake_vllm.config(exported), states)
    next_logits, end, draw = logits_of(model), vocabulary.special("<|end|>"), random.Random(0)
    waiting, running, found = [*range(len(ASKED))], {}, {}  # slot → [number, tokens read so far, tokens there]
    moved = False

    def begin(slot: int, number: int, written: list[int]) -> None:
        there = [*asked[number].ids, *written]
        ids[slot, : len(there)] = torch.tensor(there)
        lengths[slot] = len(asked[number].ids)
        assert processor.add_request(slot, fake_vllm.parameters(to_argument(ASKED[number], None, vocabulary)))
        running[slot] = [number, 0, len(there)]

    while waiting or running:
        free = [slot for slot in range(slots) if slot not in running]
        if waiting and free:
            begin(draw.choice(free), waiting.pop(0), [])
        elif free and not moved and any(there - lengths[slot] > 10 for slot, (_, _, there) in running.items()):
            slot = next(slot for slot, (_, _, there) in running.items() if there - lengths[slot] > 10)
            number, _, there = running.pop(slot)
            begin(free[0], number, ids[slot, lengths[slot] : there].tolist())
            moved = True
        order = draw.sample([*running], len(running))
        for slot in order:  # a prompt is read in pieces of two
            number, read, there = running[slot]
            running[slot][1] = min(there, read + 2) if read < lengths[slot] else there
        context = types.SimpleNamespace(
            expanded_idx_mapping=torch.tensor(order, dtype=torch.int32),
            pos=torch.tensor([running[slot][1] - 1 for slot in order]),
        )
        logits = torch.stack([next_logits(ids[slot, : running[slot][1]].tolist()) for slot in order])
        forced = processor.apply(logits, context)
        for row, slot in enumerate(order):
            number, read, there = running[slot]
            if read < there:
                continue
            token = int(forced[row].argmax())
            ids[slot, there] = token
            running[slot][2] += 1
            written = ids[slot, lengths[slot] : there + 1].tolist()
            if token == end or len(written) == ASKED[number].max_new_tokens:
                found[number] = [one for one in written if one != end]
                del running[slot]
    assert moved and [found[number] for number in range(len(ASKED))] == write_all(model.engine(), asked, ASKED)
    with pytest.raises(ValueError, match="no speculative decoding"):
        processors["grammar_v2"](fake_vllm.config(exported, speculative=object()), states)
    assert not processor.add_request(0, fake_vllm.parameters(None))
    with pytest.raises(ValueError, match="expected a folder that `mmpt export"):
        processors["grammar_v2"](fake_vllm.config(exported.parent), states)


def test_what_was_made_for_another_vocabulary_ends_at_once(exported, model):
    other = Vocabulary(300, "a", 16, 5, 16, 12.5)
    answer = Following(exported, torch.device("cpu")).begin({"mmpt": to_argument(Settings(), None, other)})
    assert isinstance(answer, Followed) and answer.grammar.allowed() == {"<|end|>"}


@contextmanager
def live(app):
    """The address of an app on a port of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(20)


def test_served_by_vllm_the_answers_are_the_same(processors, exported, model):
    processor = processors["grammar_v1"](fake_vllm.config(exported), torch.device("cpu"), False)
    bodies = [
        {
            "messages": user({"type": "text", "text": f"the {n}"}),
            "temperature": 1.3,
            "seed": n,
            "max_tokens": 60,
            "return_token_ids": True,
        }
        for n in range(4)
    ]
    with live(fake_vllm.server(processor, logits_of(model))) as url:
        remote = connect(tokenizers_folder(exported), url)
        assert remote.context == 512
        with serving(remote) as (address, service), serving(model) as (own, _):
            for body in bodies:
                one, other = post(address, **body), post(own, **body)
                assert one.status_code == other.status_code == 200, one.text
                assert one.json()["choices"] != [] and _without_id(one.json()["choices"]) == _without_id(other.json()["choices"])
            assert post(address, **bodies[0], guidance=3).status_code == 400
            assert post(address, **{**bodies[0], "max_tokens": 4000}).status_code == 200  # as much as there is room for
            assert service.taken == 0
        engine = remote.engine(max_rows=2)
        with pytest.raises(DataError, match="guidance: it cannot be had"):
            engine.fitted(Prompt([1]), Settings(guidance=2))
        with pytest.raises(DataError, match="the model's context"):
            engine.fitted(Prompt([1] * 512), Settings())
        with pytest.raises(DataError, match="features"):
            engine.fitted(Prompt([1], (("image", np.zeros(1), torch.zeros(1)),)), Settings())


def _without_id(choices: list[dict]) -> list[dict]:
    """Without what is of its time; of sound, which is rounded otherwise in another thread, the length."""
    for choice in choices:
        for place in [choice["message"].get("audio"), *(part.get("input_audio") for part in choice["message"]["parts"])]:
            if place:
                place["data"] = len(place["data"])
        choice["message"].pop("id")
        for key in ("id", "expires_at"):
            (choice["message"].get("audio") or {}).pop(key, None)
    return choices


def test_a_vllm_that_is_none_or_another_is_told(processors, exported, run, tmp_path, model):
    folder = tokenizers_folder(exported)
    with pytest.raises(ConfigError, match="no vLLM answers there"):
        connect(folder, "http://127.0.0.1:9")
    with (
        live(fake_vllm.server(None, logits_of(model))) as url,
        pytest.raises(ConfigError, match="without the grammar.*grammar_v2"),
    ):
        connect(folder, url)
    other = tmp_path / "other"
    export_hf(find_checkpoint(run), other, vllm=True)
    Vocabulary(300, "another", 16, 5, 16, 12.5).save(other)
    processor = processors["grammar_v1"](fake_vllm.config(other), torch.device("cpu"), False)
    with live(fake_vllm.server(processor, logits_of(model))) as url, pytest.raises(ConfigError, match="another vocabulary"):
        connect(folder, url)


PLAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, prompt, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
given = tokenizer(prompt, return_tensors="pt")
ids = model.generate(**given, max_new_tokens=most, do_sample=False)[0, given["input_ids"].shape[1]:]
print(json.dumps([tokenizer.decode(ids, skip_special_tokens=True), len(ids)]))
"""


@pytest.mark.slow
def test_the_server_of_transformers_serves_the_text_of_an_export(exported, tmp_path):
    """It takes text and gives text: codes are special tokens, and it leaves those out."""
    pytest.importorskip("typer")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        "--port",
        str(port),
        "--device",
        "cpu",
        "--dtype",
        "float32",
    ]
    server = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"}, stderr=subprocess.DEVNULL)
    prompt = "the red<|image|><|image_00003|><|/image|>"
    body = {"model": str(exported), "prompt": prompt, "max_tokens": 30}
    try:
        for _ in range(600):
            assert server.poll() is None
            try:
                reply = httpx.post(f"http://localhost:{port}/v1/completions", json=body, timeout=120).json()
                break
            except httpx.ConnectError:
                time.sleep(0.2)
    finally:
        server.terminate()
        server.wait(20)
    command = [os.environ["WARM_PYTHON"], "-c", PLAIN, str(exported), prompt, "30"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    text, count = json.loads(done.stdout.splitlines()[-1])
    assert reply["choices"][0]["text"] == text and reply["usage"]["completion_tokens"] == count > 0
