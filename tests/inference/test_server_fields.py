"""Fields of chat completions by the official client of OpenAI, each value held against one computed without the server."""

import base64
import json
import time

import jsonschema
import numpy as np
import openai
import pytest
import torch

from mmpt.document import Text
from mmpt.inference.settings import Settings
from mmpt.media import open_sound

from .asking import post, user

WORDS = "the red"


@pytest.fixture(scope="module")
def client(server):
    return openai.OpenAI(base_url=f"{server[0]}/v1", api_key="none", max_retries=0, timeout=60)


def ask(client, **fields):
    extra = {"return_token_ids": True, **fields.pop("extra_body", {})}
    given = {"model": "tiny", "messages": [{"role": "user", "content": WORDS}], "modalities": ["text"], "max_tokens": 12}
    return client.chat.completions.create(**{**given, **fields}, extra_body=extra)


def prompt_of(model) -> list[int]:
    (prompt,) = model.prompts([(Text(WORDS),)])
    return prompt.ids


def plain_logits(model, ids: list[int]) -> torch.Tensor:
    """Of the model as transformers runs it, at each place."""
    with torch.no_grad():
        return model.model(torch.tensor([ids])).logits[0].double().clone()


def test_several_answers_have_seeds_of_their_own_and_their_index(client, model):
    answer = ask(client, n=3, seed=7, temperature=1.3)
    alone = [ask(client, seed=7 + number, temperature=1.3).choices[0] for number in range(3)]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [choice.token_ids for choice in answer.choices] == [one.token_ids for one in alone]
    assert len({tuple(one.token_ids) for one in alone}) == 3
    assert answer.usage.completion_tokens == sum(len(one.token_ids) for one in alone)
    assert answer.usage.prompt_tokens == len(prompt_of(model)) and answer.prompt_token_ids == prompt_of(model)
    assert len({choice.message.id for choice in answer.choices}) == 3


def test_several_answers_are_streamed_side_by_side(client):
    whole = ask(client, n=3, seed=7, temperature=1.3, max_tokens=30)
    chunks = list(ask(client, n=3, seed=7, temperature=1.3, max_tokens=30, stream=True, stream_options={"include_usage": True}))
    found = {number: [] for number in range(3)}
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        found[choice.index].append(choice)
    for choice in whole.choices:
        own = found[choice.index]
        assert [i for one in own for i in one.token_ids] == choice.token_ids
        assert "".join(one.delta.content or "" for one in own) == choice.message.content
        assert own[0].delta.role == "assistant" and own[-1].finish_reason == choice.finish_reason
    order = [chunk.choices[0].index for chunk in chunks[3:-1]]
    assert order != sorted(order)  # as they come, not one after the other
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage and all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize("modalities", [["text"], ["audio"], ["image"]])
def test_logprobs_are_those_of_the_model_before_the_grammar_and_the_sampler(client, model, modalities):
    choice = ask(client, modalities=modalities, logprobs=True, top_logprobs=4, temperature=1.3, seed=3).choices[0]
    prompt = prompt_of(model)
    scores = plain_logits(model, prompt + choice.token_ids).log_softmax(dim=-1)[len(prompt) - 1 :]
    content = choice.logprobs.content
    assert len(content) == len(choice.token_ids) > 3 and choice.logprobs.refusal is None
    names = ["".join(model.tokenizer.text.decode([n])) for n in range(model.tokenizer.vocabulary.text_size)]
    names += model.tokenizer.vocabulary.added_tokens()
    for place, (token, one) in enumerate(zip(choice.token_ids, content, strict=True)):
        assert one.logprob == pytest.approx(scores[place, token].item(), abs=1e-4) and one.token == names[token]
        values, ids = scores[place].topk(4)
        assert [top.logprob for top in one.top_logprobs] == pytest.approx(values.tolist(), abs=1e-4)
        assert [top.token for top in one.top_logprobs] == [names[number] for number in ids.tolist()]
        assert (one.bytes is None) == (token >= model.tokenizer.vocabulary.text_size)
    spelled = b"".join(bytes(one.bytes) for one in content if one.bytes is not None).decode(errors="replace")
    assert modalities != ["text"] or spelled.strip() == choice.message.content


def test_logprobs_of_a_stream_are_those_of_the_whole(client):
    fields = {
        "logprobs": True,
        "top_logprobs": 2,
        "temperature": 1.3,
        "seed": 5,
        "modalities": ["text", "audio"],
        "max_tokens": 30,
    }
    whole = ask(client, **fields).choices[0].logprobs.content
    chunks = [chunk.choices[0] for chunk in ask(client, **fields, stream=True)]
    assert [one for choice in chunks if choice.logprobs for one in choice.logprobs.content] == whole


def test_penalties_and_bias_move_logits_as_openai_says(client, model):
    """mu[j] - c[j] * alpha_frequency - float(c[j] > 0) * alpha_presence, and the bias on top: greedily, in float64."""
    size = model.tokenizer.vocabulary.text_size
    bias = {"70": 4.0, "71": -100.0, "72": 3.5}
    fields = {"frequency_penalty": 0.9, "presence_penalty": 1.1, "logit_bias": bias, "max_tokens": 25}
    written = ask(client, **fields).choices[0].token_ids
    prompt, wanted = prompt_of(model), []
    end = model.tokenizer.vocabulary.special("<|end|>")
    for _ in written:
        logits = plain_logits(model, prompt + wanted)[-1]
        for token, count in zip(*np.unique(wanted, return_counts=True), strict=True):
            logits[int(token)] -= 0.9 * count + 1.1
        for token, more in bias.items():
            logits[int(token)] += more
        allowed = [*range(size), *([end] if wanted else [])]
        wanted.append(max(allowed, key=lambda token: logits[token].item()))
    assert written == wanted and written != ask(client, max_tokens=25).choices[0].token_ids
    assert ask(client, logit_bias={"70": 100}, max_tokens=6).choices[0].token_ids == [70] * 6


SCHEMA = {
    "type": "object",
    "properties": {
        "colour": {"enum": ["red", "green"]},
        "count": {"type": "integer", "minimum": 0, "maximum": 99},
        "places": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 1, "maxItems": 2},
    },
    "required": ["colour", "count", "places"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("seed", range(8))
def test_json_by_a_schema(client, seed):
    """Whatever the weights (here random ones), what is written is an instance, by the library jsonschema."""
    form = {"type": "json_schema", "json_schema": {"name": "scene", "schema": SCHEMA, "strict": True}}
    answer = ask(client, response_format=form, temperature=1.5, seed=seed, max_tokens=400).choices[0]
    assert answer.finish_reason == "stop"
    jsonschema.validate(json.loads(answer.message.content), SCHEMA)


@pytest.mark.parametrize("seed", range(4))
def test_json_of_any_kind_and_its_beginning_where_the_room_ends(client, seed):
    whole = ask(client, response_format={"type": "json_object"}, temperature=0.7, seed=seed, max_tokens=600).choices[0]
    if whole.finish_reason == "stop":
        assert isinstance(json.loads(whole.message.content), dict)
    assert whole.message.content.startswith("{")
    cut = ask(client, response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}, max_tokens=5)
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 5


def test_tokens_are_counted_by_what_they_are(client, model):
    fields = {"modalities": ["text", "image", "audio"], "temperature": 1.3, "max_tokens": 100}
    vocabulary = model.tokenizer.vocabulary
    for seed in range(40):
        answer = ask(client, **fields, seed=seed, logit_bias={str(vocabulary.special("<|speech|>")): 4})
        ids = answer.choices[0].token_ids
        blocks = vocabulary.split(ids)
        if {kind for kind, _ in blocks} == {"text", "image", "speech"}:
            break
    speech = sum(len(values) + 2 for kind, values in blocks if kind == "speech")
    image = sum(len(values) + 2 for kind, values in blocks if kind == "image")
    details = answer.usage.completion_tokens_details
    assert (details.audio_tokens, details.image_tokens) == (speech, image) and speech > 2 and image > 2
    assert details.text_tokens == len(ids) - speech - image == sum(i < vocabulary.text_size for i in ids)
    asked = answer.usage.prompt_tokens_details
    assert asked.audio_tokens == asked.image_tokens == asked.cached_tokens == 0
    assert asked.text_tokens == answer.usage.prompt_tokens
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + len(ids)


@pytest.mark.parametrize("form", ["wav", "mp3", "flac", "opus", "aac", "pcm16"])
def test_sound_in_each_format(client, model, form):
    """By the decoder of the tokenizer itself; what the format loses is stated by a correlation."""
    if form == "aac":
        pytest.importorskip("av")
    fields = {"modalities": ["audio"], "max_tokens": 90, "temperature": 1.0, "seed": 4}
    answer = ask(client, **fields, audio={"voice": "default", "format": form}).choices[0]
    audio = answer.message.audio
    codes = [values for kind, values in model.tokenizer.vocabulary.split(answer.token_ids) if kind == "speech"]
    wanted = np.concatenate(model.tokenizer.speech.decode(codes))
    data = base64.b64decode(audio.data)
    if form == "pcm16":
        samples, rate = np.frombuffer(data, "<i2") / 32767, 24_000
    else:
        samples, rate, _ = open_sound(data)
    assert len(samples) / rate == pytest.approx(len(wanted) / 16_000, abs=0.15)  # coders begin and end with a frame more
    spectra = [np.abs(np.fft.rfft(one, int(one_rate * 4)))[: 4 * 3000] for one, one_rate in ((samples, rate), (wanted, 16_000))]
    assert np.corrcoef(*spectra)[0, 1] > (0.99 if form in ("wav", "flac", "pcm16") else 0.8)
    assert audio.id.startswith("audio-") and 3500 < audio.expires_at - time.time() <= 3601
    assert isinstance(audio.transcript, str)
    heard = model.tokenizer.speech.transcribe(codes)
    assert audio.transcript == " ".join(heard)


def test_ids_stand_in_an_answer_only_where_they_are_asked_for(server):
    body = {"messages": user({"type": "text", "text": WORDS}), "max_tokens": 40, "temperature": 1.3, "seed": 2}
    said = json.dumps(post(server[0], **body).json())
    assert '"ids"' not in said and "token_ids" not in said
    said = json.dumps(post(server[0], **body, return_token_ids=True).json())
    assert '"ids"' in said and '"token_ids"' in said and '"prompt_token_ids"' in said


def test_settings_that_ask_for_nothing_change_no_bit(model):
    prompts = model.prompts([(Text(WORDS),), (Text("circle"),)])
    plain = model.generate(prompts, max_new_tokens=30, text={"temperature": 1.0}, speech={"temperature": 1.0})
    again = model.generate(prompts, max_new_tokens=30, text={"temperature": 1.0}, speech={"temperature": 1.0}, logprobs=3)
    assert plain == again and Settings().logprobs is None
