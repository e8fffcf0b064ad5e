"""Speech, transcriptions and pictures by the official client of OpenAI, held against what the model answers without a server."""

import base64
import io
import json

import httpx
import numpy as np
import openai
import PIL.Image
import pysubs2
import pytest

from mmpt.document import Speech, Text
from mmpt.inference.server.recordings import Recording, windows
from mmpt.media import encode_wav, open_sound
from mmpt.model.prompts import Prompts, chosen_prompts

from .asking import limits
from .live import serving

SAID = "the red circle"


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server[0]}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def wanted(model):
    """(samples at 16 kHz, ids) of SAID, spoken."""
    settings = {"outputs": ["speech"], "max_parts": 1, "max_new_tokens": 2001}
    (answer,) = model.answer([(Text("say"), Text(SAID))], **settings)
    (codes,) = [values for kind, values in model.tokenizer.vocabulary.split(answer.ids) if kind == "speech"]
    (samples,) = model.tokenizer.speech.decode([codes])
    return samples, answer.ids


def recording(seconds: float = 1.0, pauses: bool = False) -> np.ndarray:
    """A tone; with `pauses` of a quarter of a second in each two."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    loud = (times % 2 < 1.6) if pauses else np.ones_like(times)
    return (0.3 * loud * np.sin(2 * np.pi * (200 + 40 * np.floor(times)) * times)).astype(np.float32)


def transcript(model, samples: np.ndarray) -> tuple[str, list[int]]:
    part = Speech(encode_wav(samples, 16_000), "wav", 16_000, len(samples) / 16_000)
    (answer,) = model.answer([(Text("transcribe"), part)], outputs=["text"], max_new_tokens=449)
    return " ".join(part.text for part in answer.parts), answer.ids


def test_a_text_is_spoken_as_the_model_answers_say(client, wanted):
    spoken = client.audio.speech.create(model="tiny", input=SAID, voice="default", response_format="wav")
    assert spoken.response.headers["content-type"] == "audio/wav"
    head, samples = spoken.read()[:44], np.frombuffer(spoken.read()[44:], "<i2") / 32767
    assert head[:4] == b"RIFF" and head[4:8] == b"\xff\xff\xff\xff" and int.from_bytes(head[24:28], "little") == 16_000
    assert np.abs(samples - wanted[0].clip(-1, 1)).max() < 2e-3


@pytest.mark.parametrize("form", ["mp3", "opus", "flac", "aac", "pcm"])
def test_speech_in_each_format_while_it_is_spoken(client, wanted, form):
    with client.audio.speech.with_streaming_response.create(
        model="tiny", input=SAID, voice="default", response_format=form
    ) as answer:
        pieces = list(answer.iter_bytes())
    data = b"".join(pieces)
    if form == "pcm":
        samples, rate = np.frombuffer(data, "<i2") / 32767, 24_000
    else:
        samples, rate, _ = open_sound(data)
    assert len(samples) / rate == pytest.approx(len(wanted[0]) / 16_000, abs=0.15)


def test_speech_as_events(server, wanted):
    body = {"input": SAID, "stream_format": "sse", "response_format": "wav", "voice": "default"}
    answer = httpx.post(f"{server[0]}/v1/audio/speech", json=body, timeout=60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line]
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"} and len(events) > 3
    samples = np.frombuffer(b"".join(base64.b64decode(event["audio"]) for event in events[:-1])[44:], "<i2") / 32767
    assert np.abs(samples - wanted[0].clip(-1, 1)).max() < 2e-3
    assert events[-1]["type"] == "speech.audio.done" and events[-1]["usage"]["output_tokens"] == len(wanted[1])


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"voice": "alloy"}, "voice"),
        ({"speed": 1.5}, "speed"),
        ({"instructions": "whisper"}, "instructions: not supported"),
        ({"response_format": "ogg"}, "response_format"),
        ({"input": ""}, "input"),
        ({"input": "a" * 4097}, "input"),
        ({"model": "tts-1"}, "tts-1"),
    ],
)
def test_speech_that_is_refused(server, fields, said):
    answer = httpx.post(f"{server[0]}/v1/audio/speech", json={"input": "a", "voice": "default", **fields}, timeout=60)
    assert answer.status_code == (404 if "model" in fields else 400) and said in answer.json()["error"]["message"]
    assert set(fields) <= {answer.json()["error"]["param"], "model"}


def test_a_recording_is_written_down_as_the_model_answers_transcribe(client, model):
    samples = recording()
    text, ids = transcript(model, samples)
    file = ("a.wav", encode_wav(samples, 16_000))
    answer = client.audio.transcriptions.create(model="tiny", file=file, include=["logprobs"])
    assert answer.text == text and len(answer.logprobs) == len(ids) == answer.usage.output_tokens
    codes = len(model.tokenizer.speech.encode([samples])[0])
    details = answer.usage.input_token_details
    assert details.audio_tokens == codes + 2
    assert answer.usage.input_tokens == details.audio_tokens + details.text_tokens
    assert client.audio.transcriptions.create(model="tiny", file=file, response_format="text") == text + "\n"
    verbose = client.audio.transcriptions.create(
        model="tiny", file=file, response_format="verbose_json", language="en", timestamp_granularities=["segment"]
    )
    (segment,) = verbose.segments
    assert (verbose.text, verbose.language, verbose.duration) == (text, "en", 1.0)
    assert (segment.start, segment.end, segment.text, segment.tokens) == (0.0, 1.0, text, ids)
    assert segment.avg_logprob == pytest.approx(np.mean([one.logprob for one in answer.logprobs]))
    events = list(client.audio.transcriptions.create(model="tiny", file=file, stream=True))
    assert "".join(event.delta for event in events[:-1]) == events[-1].text == text and len(events) > 3
    assert events[-1].usage.output_tokens == len(ids)


def test_a_long_recording_is_cut_at_its_pauses_and_its_segments_say_where(model):
    samples = recording(5.9, pauses=True)
    cuts = windows(Recording(samples), 2.2)
    assert [round(one.start / 16_000, 1) for one in cuts] == pytest.approx([0.0, 1.8, 3.8], abs=0.2)
    assert all(one.end == other.start for one, other in zip(cuts, cuts[1:], strict=False)) and cuts[-1].end == len(samples)
    texts = [transcript(model, samples[one.start : one.end])[0] for one in cuts]
    file = ("a.flac", encode_wav(samples, 16_000))
    with serving(model, prompts=Prompts(window=2.2)) as (address, _):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)
        verbose = client.audio.transcriptions.create(model="tiny", file=file, response_format="verbose_json")
        assert [one.text for one in verbose.segments] == texts and verbose.text == " ".join(texts)
        for form in ("srt", "vtt"):
            said = client.audio.transcriptions.create(model="tiny", file=file, response_format=form)
            lines = pysubs2.SSAFile.from_string(said, format_=form)
            assert [line.text for line in lines] == [text.strip() for text in texts]
            assert [line.start / 1000 for line in lines] == pytest.approx([one.start / 16_000 for one in cuts], abs=1e-3)
            assert [line.end / 1000 for line in lines] == pytest.approx([one.end / 16_000 for one in cuts], abs=1e-3)
        events = list(client.audio.transcriptions.create(model="tiny", file=file, stream=True))
        assert "".join(event.delta for event in events[:-1]) == events[-1].text == verbose.text


def test_the_speech_tokenizers_own_text_decoder_writes_down_where_that_is_chosen(model):
    samples = recording()
    with serving(model, prompts=Prompts(transcription=None)) as (address, _):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)
        answer = client.audio.transcriptions.create(model="tiny", file=("a.wav", encode_wav(samples, 16_000)))
    assert answer.text == model.tokenizer.speech.recognize([samples])[0] and answer.usage.type == "duration"


def test_silence_has_no_text(client):
    file = ("a.wav", encode_wav(np.zeros(16_000, dtype=np.float32), 16_000))
    assert client.audio.transcriptions.create(model="tiny", file=file).text == ""


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"prompt": "Names: Bob."}, "prompt:"),
        ({"response_format": "diarized_json"}, "response_format"),
        ({"timestamp_granularities[]": "word", "response_format": "verbose_json"}, "expected segment"),
        ({"timestamp_granularities[]": "segment"}, "goes with response_format"),
        ({"stream": "true", "response_format": "srt"}, "stream goes with"),
        ({"temperature": "2"}, "temperature"),
        ({"keywords[]": "a"}, "keywords: not supported"),
        ({"chunking_strategy": "server_vad"}, "chunking_strategy"),
    ],
)
def test_transcriptions_that_are_refused(server, fields, said):
    file = ("a.wav", encode_wav(recording(0.2), 16_000))
    answer = httpx.post(f"{server[0]}/v1/audio/transcriptions", files={"file": file}, data=fields, timeout=60)
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        ({"files": {"file": ("a.wav", b"RIFFno")}}, 400, "no audio"),
        ({"files": {"sound": ("a.wav", b"a")}}, 400, "sound: expected one file"),
        ({"files": {"other": (None, b"a")}}, 400, "file: expected a recording"),
        ({"json": {}}, 415, "multipart/form-data"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, 400, "form"),
        ({"content": b"--x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "form"),
    ],
)
def test_forms_that_are_none(server, request_, status, said):
    answer = httpx.post(f"{server[0]}/v1/audio/transcriptions", **request_, timeout=60)
    assert answer.status_code == status and said in answer.json()["error"]["message"]


def test_pictures_are_those_that_the_model_answers_draw(client, model):
    settings = {"outputs": ["image"], "max_parts": 1, "image": {"temperature": 1.0}, "max_new_tokens": 8}
    wanted = [model.answer([(Text("draw"), Text(SAID))], seed=3 + number, **settings)[0].parts[0] for number in range(2)]
    answer = client.images.generate(model="tiny", prompt=SAID, n=2, extra_body={"seed": 3})
    drawn = [PIL.Image.open(io.BytesIO(base64.b64decode(one.b64_json))) for one in answer.data]
    for picture, part in zip(drawn, wanted, strict=True):
        assert picture.format == "PNG" and np.array_equal(picture, PIL.Image.open(io.BytesIO(part.data)))
    assert answer.size == "16x16" and answer.output_format == "png" and answer.background == "opaque"
    assert answer.usage.output_tokens == answer.usage.output_tokens_details.image_tokens == 2 * (5 + 2)
    assert answer.usage.input_tokens == answer.usage.input_tokens_details.text_tokens


@pytest.mark.parametrize("form", ["jpeg", "webp"])
def test_a_picture_in_another_size_and_format(client, model, form):
    asked = {"model": "tiny", "prompt": SAID, "extra_body": {"temperature": 0}}
    small = PIL.Image.open(io.BytesIO(base64.b64decode(client.images.generate(**asked).data[0].b64_json)))
    answer = client.images.generate(**asked, size="64x64", output_format=form, output_compression=95)
    picture = PIL.Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json)))
    assert picture.size == (64, 64) and picture.format == form.upper() and answer.size == "64x64"
    large = small.resize((64, 64), PIL.Image.Resampling.LANCZOS)
    assert np.abs(np.asarray(picture, dtype=float) - np.asarray(large, dtype=float)).mean() < 12


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"response_format": "url"}, "response_format"),
        ({"size": "1792x1024"}, "this model draws 16x16"),
        ({"size": "large"}, "size: expected auto"),
        ({"output_compression": 50}, "goes with output_format"),
        ({"background": "transparent"}, "background"),
        ({"style": "vivid"}, "style: not supported"),
        ({"n": 11}, "n:"),
        ({"n": 5}, "at most 4"),
        ({"quality": "hd"}, "quality"),
        ({"prompt": ""}, "prompt"),
        ({"stream": True}, "stream"),
    ],
)
def test_pictures_that_are_refused(server, fields, said):
    answer = httpx.post(f"{server[0]}/v1/images/generations", json={"prompt": "a", **fields}, timeout=60)
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]


def test_words_before_what_is_asked_are_those_of_the_file(model, tmp_path):
    (tmp_path / "p.yaml").write_text("speech: read aloud\nimage: ''\n")
    prompts = chosen_prompts(tmp_path / "p.yaml", tmp_path)
    (answer,) = model.answer([(Text("read aloud"), Text(SAID))], outputs=["speech"], max_parts=1, max_new_tokens=2001)
    with serving(model, limits(), prompts=prompts) as (address, _):
        body = {"input": SAID, "stream_format": "sse", "response_format": "pcm"}
        events = httpx.post(f"{address}/v1/audio/speech", json=body, timeout=60).text.splitlines()
    usage = json.loads(events[-2][6:])["usage"]
    (prompt,) = model.prompts([(Text("read aloud"), Text(SAID))])
    assert usage["input_tokens"] == len(prompt.ids) and usage["output_tokens"] == len(answer.ids)
