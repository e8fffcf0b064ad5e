"""A server writes."""

import base64
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pydantic

from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.errors import ConfigError
from mmpt.inference.writers import Writer

_SUFFIXES = {"jpg": "jpeg"}
_LONGEST_WAIT = 30.0
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
_REFUSED = {400, 413, 422}
"""What a server says to a prompt that is too long, or that it does not want to answer: others may be answered all the same."""


class Server(Writer):
    """A server that speaks OpenAI's HTTP interface, as vLLM (vllm-project/vllm), SGLang, llama.cpp and `mmpt serve` do:
    `POST /chat/completions`, and `POST /completions` for prompts that are to be continued. Pictures go as data: URLs."""

    url: str
    """Its address up to the version: http://localhost:8000/v1."""
    model: str
    """The name by which the server knows the model."""
    key_variable: str = ""
    """Name of the environment variable that holds the key of access; empty: none is sent."""
    attempts: int = pydantic.Field(default=6, ge=1)
    """Times that a prompt is sent where the server is busy or cannot be reached; the waits between double."""
    first_wait: float = pydantic.Field(default=1.0, ge=0)
    """Seconds before the second."""
    timeout: float = pydantic.Field(default=600.0, gt=0)
    """Seconds that an answer may take."""

    def model_state(self) -> str:
        return self.model

    def write(self, prompts: Sequence[Prompt]) -> list[Answer]:
        headers = {"authorization": f"Bearer {self._key()}"} if self.key_variable else {}
        with (
            httpx.Client(base_url=self.url, headers=headers, timeout=self.timeout) as client,
            ThreadPoolExecutor(self.batch) as pool,
        ):
            return list(pool.map(lambda prompt: self._answered(client, prompt), prompts))

    def _key(self) -> str:
        key = os.environ.get(self.key_variable)
        if not key:
            raise ConfigError(f"writer.key_variable: the environment has no {self.key_variable}")
        return key

    def _answered(self, client: httpx.Client, prompt: Prompt) -> Answer:
        where, body = self._request(prompt)
        said = ""
        for attempt in range(self.attempts):
            try:
                reply = client.post(where, json=body)
            except httpx.TransportError as problem:
                said = f"cannot be reached ({problem})"
            else:
                if reply.is_success:
                    return self._read(reply)
                said = f"says {reply.status_code}: {reply.text[:200]}"
                if reply.status_code in _REFUSED:
                    return Answer("", refused=said)
                if reply.status_code not in _AGAIN:
                    break
            if attempt + 1 < self.attempts:
                time.sleep(min(_LONGEST_WAIT, self.first_wait * 2**attempt))
        raise ConfigError(f"{self.url}: the server {said}")

    def _request(self, prompt: Prompt) -> tuple[str, dict[str, Any]]:
        body = {"model": self.model, "max_tokens": self.max_new_tokens, "temperature": self.temperature, "top_p": self.top_p}
        body["seed"] = self.seeds([prompt])[0] % (1 << 31)
        if prompt.plain:
            return "completions", body | {"prompt": prompt.text}
        content: Any = prompt.text
        if prompt.image:
            kind = _SUFFIXES.get(prompt.image.suffix, prompt.image.suffix)
            url = f"data:image/{kind};base64,{base64.b64encode(prompt.image.data).decode()}"
            content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt.text}]
        return "chat/completions", body | {"messages": [{"role": "user", "content": content}]}

    def _read(self, reply: httpx.Response) -> Answer:
        try:
            choice = reply.json()["choices"][0]
            text = choice["message"]["content"] if "message" in choice else choice["text"]
        except (KeyError, IndexError, TypeError, ValueError):
            raise ConfigError(f"{self.url}: the server's answer has no choices with a message: {reply.text[:200]}") from None
        if not isinstance(text, str):
            return Answer("", refused="the server's answer has no text")
        return Answer(text.strip(), choice.get("finish_reason") != "length")
