"""What the server counts of itself, and its end: a process that is told to stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mmpt.model.checkpoints import find_checkpoint
from mmpt.vocabulary import Vocabulary

from .asking import asked, limits, post
from .live import serving
from .tiny import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]


def figures(address: str) -> dict[tuple, float]:
    """(name, labels) → value, by the parser of prometheus_client."""
    answer = httpx.get(f"{address}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (one.name, *sorted(one.labels.items())): one.value
        for family in text_string_to_metric_families(answer.text)
        for one in family.samples
    }


def test_what_is_counted_is_what_was_asked_and_answered(model):
    with serving(model, limits()) as (address, service):
        answers = [post(address, **asked("the red", max_tokens=30, temperature=1.3, seed=seed)).json() for seed in range(4)]
        spoken = httpx.post(f"{address}/v1/audio/speech", json={"input": "a", "stream_format": "sse"}, timeout=60).text
        assert post(address, messages=[]).status_code == 400 and httpx.get(f"{address}/nowhere").status_code == 404
        found = figures(address)
        usage = json.loads(spoken.splitlines()[-2][6:])["usage"]
        chat, speech = ("route", "/v1/chat/completions"), ("route", "/v1/audio/speech")
        assert found["mmpt_requests_total", chat, ("status", "200")] == 4
        assert found["mmpt_requests_total", chat, ("status", "400")] == 1
        assert found["mmpt_requests_total", speech, ("status", "200")] == 1
        assert found["mmpt_requests_total", ("route", "other"), ("status", "404")] == 1
        assert found["mmpt_request_seconds_count", chat] == 5
        written = {name: value for name, value in found.items() if name[0] == "mmpt_generated_tokens_total"}
        assert sum(written.values()) == sum(one["usage"]["completion_tokens"] for one in answers) + usage["output_tokens"]
        details = [one["usage"]["completion_tokens_details"] for one in answers]
        audio = sum(one["audio_tokens"] for one in details) + usage["output_tokens"]
        assert written["mmpt_generated_tokens_total", ("modality", "speech")] == audio
        read = sum(value for name, value in found.items() if name[0] == "mmpt_prompt_tokens_total")
        assert read == sum(one["usage"]["prompt_tokens"] for one in answers) + usage["input_tokens"]
        assert found["mmpt_time_to_first_token_seconds_count",] == 5 and found["mmpt_time_to_first_audio_seconds_count",] >= 1
        assert found["mmpt_time_per_token_seconds_count",] > 20
        assert found["mmpt_sequences_running",] == found["mmpt_sequences_waiting",] == service.taken == 0


def test_figures_are_for_who_has_the_token(model):
    with serving(model, token="secret") as (address, _):
        assert httpx.get(f"{address}/metrics").status_code == 401 and httpx.get(f"{address}/health").status_code == 200


@pytest.fixture
def process(tmp_path, request):
    """(a server in a process of its own, its address, the id that ends its answers); to its requests 3 seconds are left once it
    is to stop. Its parameter: the Python that runs it."""
    run = write_checkpoint(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [request.param, "-m", "mmpt.cli", "serve", str(run), "--port", str(port), "--grace", "3"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WARM_CHILDREN": "1"}
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
    try:
        while True:
            assert server.poll() is None and time.monotonic() < deadline
            try:
                httpx.get(f"{address}/health")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield server, address, Vocabulary.load(find_checkpoint(run)).special("<|end|>")
    finally:
        server.kill()
        server.wait(20)


@pytest.mark.slow
@pytest.mark.parametrize("process", [os.environ["WARM_PYTHON"]], indirect=True, ids=["fork"])
def test_a_server_that_is_told_to_stop_takes_nothing_new_and_ends_what_runs(process):
    """Endless answers end with a reason once their time is over, and the process with exit code 0."""
    server, address, end = process
    with ThreadPoolExecutor(3) as pool:
        # With the end forbidden an answer goes on to its last token.
        body = asked("a", modalities=["text"], max_tokens=4000, logit_bias={end: -100}, temperature=1.0)
        streams = [pool.submit(_lines, address, {**body, "stream": True}) for _ in range(2)]
        whole = pool.submit(httpx.post, f"{address}/v1/chat/completions", json=body, timeout=60)
        deadline = time.monotonic() + 30
        while httpx.get(f"{address}/health").json()["requests"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        server.send_signal(signal.SIGTERM)
        begun = time.monotonic()
        while (health := httpx.get(f"{address}/health")).status_code == 200:
            time.sleep(0.02)
        assert health.status_code == 503 and time.monotonic() - begun < 1
        late = post(address, **asked("a", max_tokens=2))
        assert late.status_code == 503 and int(late.headers["retry-after"]) > 0
        assert late.json()["error"]["code"] == "server_stopping"
        for stream in streams:
            *_, told, done = stream.result(30)
            assert json.loads(told[6:])["error"]["code"] == "server_stopping" and done == "data: [DONE]"
        assert whole.result(30).status_code == 503
        assert 2.5 < time.monotonic() - begun < 8
    assert server.wait(30) == 0
    assert "stopping; what runs has 3 s" in server.stderr.read()


@pytest.mark.slow
@pytest.mark.parametrize("process", [sys.executable], indirect=True, ids=["cold"])  # once as a person starts it
def test_an_answer_that_ends_in_time_is_whole(process):
    server, address, end = process
    with ThreadPoolExecutor(1) as pool:
        body = asked("a", modalities=["text"], max_tokens=150, logit_bias={end: -100}, stream=True)
        stream = pool.submit(_lines, address, body)
        while not httpx.get(f"{address}/health").json()["requests"]:
            assert not stream.done()
        server.send_signal(signal.SIGTERM)
        found = [json.loads(line[6:]) for line in stream.result(30)[:-1]]
    assert found[-1]["choices"][0]["finish_reason"] == "length"
    assert server.wait(30) == 0


def _lines(address: str, body: dict) -> list[str]:
    with httpx.stream("POST", f"{address}/v1/chat/completions", json=body, timeout=60) as answer:
        return [line for line in answer.iter_lines() if line]


def test_the_next_turn_of_a_client_reuses_what_was_read_and_it_is_counted(model):
    turns = [{"role": "user", "content": "the red circle " * 12}]
    with serving(model, limits()) as (address, _):
        for _ in range(2):
            answer = post(address, messages=turns, modalities=["text"], max_tokens=8).json()
            turns += [{"role": "assistant", "content": answer["choices"][0]["message"]["content"] or "a"}]
            turns += [{"role": "user", "content": "and the blue one"}]
            found = figures(address)
            reused = found["mmpt_prompt_reused_tokens_total",]
            assert found["mmpt_key_value_kept_tokens",] >= answer["usage"]["prompt_tokens"]
    assert 32 <= reused < answer["usage"]["prompt_tokens"]
    assert found["mmpt_key_value_used_tokens",] == 0 and found["mmpt_key_value_kept_limit_tokens",] == limits().kept_tokens
    assert found["mmpt_key_value_limit_tokens",] == float("inf")
