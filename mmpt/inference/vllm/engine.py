"""vLLM's server in the place of an `Engine`: prompts go there as ids, and ids come back."""

import json
import sys
from collections.abc import Iterator
from queue import Empty, Queue
from threading import Thread
from typing import Any

import httpx

from mmpt.errors import ConfigError, DataError
from mmpt.inference.engine import MAX_ROWS, Held, Prompt, Writing
from mmpt.inference.grammar import check_alternate
from mmpt.inference.settings import Settings
from mmpt.inference.vllm.following import KEY, to_argument
from mmpt.vocabulary import Vocabulary

OBEYED = {"outputs", "max_new_tokens", "text", "image", "speech", "alternate", "max_parts", "seed"}
"""Settings that the grammar in vLLM knows."""
WAIT = 0.05
"""Seconds after which a step without news ends, so that what else is to be done is done."""


class VllmEngine:
    """What `Engine` is to those who submit, step and cancel. vLLM decides how many run at once. Not safe for several threads, as
    `Engine`."""

    def __init__(
        self, client: httpx.Client, model: str, context: int | None, vocabulary: Vocabulary, max_rows: int = MAX_ROWS
    ) -> None:
        """`client`: of the server. `model`: its name there. `context`: ids of prompt and answer at most."""
        self._client, self._model, self.vocabulary, self.max_rows = client, model, vocabulary, max_rows
        self.context = context or sys.maxsize
        self._news: Queue[tuple[Writing, list[int], bool, Exception | None]] = Queue()
        self._writing: set[Writing] = set()

    @property
    def busy(self) -> bool:
        """Whether a sequence waits or runs."""
        return bool(self._writing)

    @property
    def held(self) -> Held:
        """Nothing here: vLLM has the keys and values."""
        return Held(0, 0)

    def reset(self) -> None:
        """Forget every sequence."""
        for writing in [*self._writing]:
            self.cancel(writing)

    def submit(self, prompt: Prompt, settings: Settings) -> Writing:
        """See `Engine.submit`."""
        writing = Writing(prompt, self.fitted(prompt, settings))
        self._writing.add(writing)
        Thread(target=self._write, args=(writing,), name="vllm", daemon=True).start()
        return writing

    def fitted(self, prompt: Prompt, settings: Settings) -> Settings:
        """See `Engine.fitted`. Raises `DataError` on what vLLM cannot be asked for as well."""
        if not prompt.ids:
            raise DataError("the prompt is empty")
        if prompt.media:
            raise DataError("the prompt has media that enter as features, which vLLM does not get")
        for name, field in Settings.model_fields.items():
            if name not in OBEYED and getattr(settings, name) != field.get_default(call_default_factory=True):
                raise DataError(f"{name}: it cannot be had where vLLM writes")
        check_alternate(self.vocabulary, settings)
        room = self.context - len(prompt.ids)
        if room < 1:
            raise DataError(f"the prompt has {len(prompt.ids)} tokens, the model's context with the answer is {self.context}")
        return settings.model_copy(update={"max_new_tokens": min(room, settings.max_new_tokens)})

    def cancel(self, writing: Writing) -> None:
        """It will get no further token: its connection is closed, and vLLM frees its room."""
        writing.finished = True
        self._writing.discard(writing)

    def step(self) -> list[tuple[Writing, list[int]]]:
        """(Sequence, its new ids) of those of which there is news, those that ended among them. Raises `RuntimeError` where vLLM
        has failed."""
        new: dict[Writing, list[int]] = {}
        for writing, ids, finished, failure in self._arrived():
            if writing.finished:
                continue
            if failure is not None:
                raise RuntimeError(f"{self._client.base_url}: {failure}") from failure
            writing.ids += ids
            new.setdefault(writing, []).extend(ids)
            if finished:
                self.cancel(writing)
        return [*new.items()]

    def _arrived(self) -> Iterator[tuple[Writing, list[int], bool, Exception | None]]:
        try:
            yield self._news.get(timeout=WAIT)
            while True:
                yield self._news.get_nowait()
        except Empty:
            return

    def _write(self, writing: Writing) -> None:
        """In a thread: tell of the ids as they come."""
        if writing.finished:
            return
        end = self.vocabulary.special("<|end|>") if writing.prompt.end is None else writing.prompt.end
        try:
            for ids in streamed(self._client, self._model, writing.prompt, writing.settings, self.vocabulary):
                if writing.finished:
                    return
                self._news.put((writing, [token for token in ids if token != end], False, None))
            self._news.put((writing, [], True, None))
        except Exception as failure:
            self._news.put((writing, [], True, failure))


def streamed(client: httpx.Client, model: str, prompt: Prompt, settings: Settings, vocabulary: Vocabulary) -> Iterator[list[int]]:
    """The ids that vLLM writes after `prompt`, its end among them, as they come. Raises `httpx.HTTPError`, `ConfigError`."""
    end = vocabulary.special("<|end|>") if prompt.end is None else prompt.end
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt.ids,
        "max_tokens": settings.max_new_tokens,
        "temperature": 0,  # the grammar leaves one id
        "stream": True,
        "return_token_ids": True,
        "ignore_eos": True,
        "stop_token_ids": [end],
        "vllm_xargs": {KEY: to_argument(settings, prompt.end, vocabulary)},
    }
    with client.stream("POST", "/v1/completions", json=body) as reply:
        if not reply.is_success:
            raise ConfigError(
                f"{client.base_url}: vLLM answers {reply.status_code}: {reply.read()[:500].decode(errors='replace')}"
            )
        for line in reply.iter_lines():
            data = line.removeprefix("data: ")
            if data == line or data == "[DONE]":
                continue
            content = json.loads(data)
            if "error" in content:
                raise ConfigError(f"{client.base_url}: vLLM says {content['error']}")
            for choice in content.get("choices", []):
                if choice.get("token_ids"):
                    yield choice["token_ids"]
