"""Writers answer as the model does that they stand for, and servers are asked again only where that can help."""

import base64
import io
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import PIL.Image
import pytest
import torch
from chats import DEFAULT_SYSTEM, text_tokenizer
from transformers import (
    AutoModelForCausalLM,
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from mmpt.chat import ChatConfig
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.document import Image, Text
from mmpt.errors import ConfigError
from mmpt.inference.load import load
from mmpt.inference.writers.engine import Engine
from mmpt.inference.writers.server import Server
from mmpt.inference.writers.transformers import Transformers
from mmpt.media import encode_png

from .live import serving
from .tiny import write_checkpoint

PROMPTS = [Prompt("the red circle"), Prompt("a"), Prompt("seen by someone who says", plain=True)]


def picture(color: str) -> Image:
    return Image(encode_png(PIL.Image.new("RGB", (8, 8), color)), "png", 8, 8)


class Stub:
    """A server that speaks as OpenAI's: `replies` in turn, (status, body), the last one for ever."""

    def __init__(self, *replies: tuple[int, object]) -> None:
        self.replies, self.asked, self.lock = list(replies), [], threading.Lock()

    @contextmanager
    def running(self):
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with stub.lock:
                    stub.asked.append((self.path, body, self.headers.get("authorization")))
                    status, reply = stub.replies.pop(0) if len(stub.replies) > 1 else stub.replies[0]
                said = json.dumps(reply(body) if callable(reply) else reply).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # of a client that was killed
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            server.server_close()


def chat(text: object, reason: str = "stop") -> dict:
    return {"choices": [{"message": {"content": text}, "finish_reason": reason}]}


def test_a_server_is_asked_in_openais_form(monkeypatch):
    stub = Stub(
        (200, lambda body: chat(" said ") if "messages" in body else {"choices": [{"text": "on", "finish_reason": "length"}]})
    )
    monkeypatch.setenv("A_KEY", "secret")
    with stub.running() as url:
        writer = Server(url=url, model="m", key_variable="A_KEY", temperature=0.5, max_new_tokens=9, batch=1)
        answers = writer.write([Prompt("hello"), Prompt("go", plain=True), Prompt("what?", image=picture("red"))])
    assert answers == [Answer("said"), Answer("on", finished=False), Answer("said")]
    (path, body, key), (plain_path, plain, _), (_, seen, _) = stub.asked
    assert (path, plain_path, key) == ("/v1/chat/completions", "/v1/completions", "Bearer secret")
    assert body["messages"] == [{"role": "user", "content": "hello"}] and plain["prompt"] == "go"
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 9, 0.5)
    url = seen["messages"][0]["content"][0]["image_url"]["url"]
    shown = PIL.Image.open(io.BytesIO(base64.b64decode(url.removeprefix("data:image/png;base64,"))))
    assert shown.getpixel((0, 0)) == (255, 0, 0)
    assert seen["seed"] != body["seed"], "each prompt is drawn by a seed of its own"


def test_a_busy_server_is_asked_again_and_a_broken_one_ends_the_run():
    with (stub := Stub((503, {}), (429, {}), (200, chat("at last")))).running() as url:
        assert Server(url=url, model="m", first_wait=0).write([Prompt("a")]) == [Answer("at last")]
    assert len(stub.asked) == 3
    with Stub((400, {"error": "too long"})).running() as url:
        (answer,) = Server(url=url, model="m").write([Prompt("a")])
    assert "400" in answer.refused and "too long" in answer.refused
    stub = Stub((404, {"error": "no such model"}))
    with stub.running() as url, pytest.raises(ConfigError, match="404.*no such model"):
        Server(url=url, model="m").write([Prompt("a")])
    assert len(stub.asked) == 1
    with Stub((200, {"answer": "x"})).running() as url, pytest.raises(ConfigError, match="no choices"):
        Server(url=url, model="m").write([Prompt("a")])
    with Stub((200, chat(None))).running() as url:
        assert Server(url=url, model="m").write([Prompt("a")])[0].refused
    with pytest.raises(ConfigError, match="cannot be reached"):
        Server(url="http://127.0.0.1:9", model="m", first_wait=0, attempts=2).write([Prompt("a")])
    with pytest.raises(ConfigError, match="NOT_THERE"):
        Server(url="http://127.0.0.1:9", model="m", key_variable="NOT_THERE").write([Prompt("a")])


def test_our_own_engine_and_server_say_what_the_model_says(tmp_path):
    folder = write_checkpoint(tmp_path, text=text_tokenizer(DEFAULT_SYSTEM), chat=ChatConfig())
    model = load(folder)
    writer = Engine(run=str(folder), max_new_tokens=12)
    asked = [[Text(prompt.text, role=None if prompt.plain else "user")] for prompt in PROMPTS]
    one_by_one = [model.answer([parts], outputs=("text",), max_new_tokens=12)[0] for parts in asked]
    expected = ["".join(part.text for part in one.parts).strip() for one in one_by_one]
    answers = writer.write(PROMPTS)
    assert [one.text for one in answers] == expected and len(set(expected)) > 1
    assert [one.finished for one in answers] == [len(one.ids) < 12 for one in one_by_one]
    with serving(model) as (address, _):
        server = Server(url=f"{address}/v1", model="tiny", max_new_tokens=12)
        assert [one.text for one in server.write(PROMPTS[:2])] == expected[:2]
    drawn = Engine(run=str(folder), max_new_tokens=12, temperature=2.0)
    assert drawn.write(PROMPTS[::-1]) == drawn.write(PROMPTS)[::-1], "each by its own seed, wherever it stands"
    assert "prompt has" in writer.write([Prompt("the red circle " * 40_000)])[0].refused
    assert len({writer.identity(), drawn.identity(), Engine(run=str(folder), max_new_tokens=13).identity()}) == 3


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = text_tokenizer(DEFAULT_SYSTEM)
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, eos_token_id=tokenizer.eos_token_id)  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        parameter.data *= 8
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model.eval(), tokenizer


def test_a_model_of_transformers_says_what_it_says_alone(language_model):
    folder, model, tokenizer = language_model
    expected = []
    for prompt in PROMPTS:
        text = prompt.text
        if not prompt.plain:
            messages = [{"role": "user", "content": text}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        written = model.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0)[0, ids.shape[1] :]
        expected.append(tokenizer.decode(written, skip_special_tokens=True).strip())
    writer = Transformers(model=str(folder), max_new_tokens=8)
    assert [one.text for one in writer.write(PROMPTS)] == expected and len(set(expected)) == 3
    drawn = Transformers(model=str(folder), max_new_tokens=8, temperature=1.0)
    assert drawn.write(PROMPTS) == drawn.write(PROMPTS) != writer.write(PROMPTS)
    with pytest.raises(ConfigError, match="writer.pictures"):
        writer.write([Prompt("what?", image=picture("red"))])
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Transformers(model=str(folder / "nothing")).write([Prompt("a")])


def test_a_model_with_other_weights_is_another(language_model, tmp_path):
    folder, model, _ = language_model
    before = Transformers(model=str(folder)).identity()
    assert before == Transformers(model=str(folder), batch=3).identity()
    model.save_pretrained(tmp_path)
    assert Transformers(model=str(tmp_path)).identity() != before


def test_a_model_that_sees_pictures(tmp_path):
    tokenizer = text_tokenizer(None)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4
    )
    torch.manual_seed(0)
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
    model = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data *= 6
    model.save_pretrained(tmp_path)
    piece = "{{ '<image>' if piece.type == 'image' else piece.text }}"
    form = f"{{% for message in messages %}}{{% for piece in message.content %}}{piece}{{% endfor %}}{{% endfor %}}"
    images = CLIPImageProcessor(size={"height": 16, "width": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(images, tokenizer, 8, "default", form, num_additional_image_tokens=1)
    processor.save_pretrained(tmp_path)
    writer = Transformers(model=str(tmp_path), pictures=True, max_new_tokens=6)
    prompts = [Prompt("what is it?", image=picture(color)) for color in ("red", "blue")]
    answers = writer.write(prompts)
    assert answers == [writer.write([one])[0] for one in prompts] and answers[0] != answers[1], "it sees them"
    broken = Prompt("what is it?", image=Image(b"no picture", "png", 8, 8))
    found = writer.write([prompts[0], broken])
    assert found[0] == answers[0] and "no picture" in found[1].refused
