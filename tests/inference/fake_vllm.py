"""vLLM's interfaces as far as the grammar touches them, and its server over an `Engine` of our own.

Names, fields and order of calls are those of vLLM 0.32 (vllm/v1/sample/logits_processor,
vllm/v1/worker/gpu/sample/logits_processor, vllm/entrypoints/openai/completion).
"""

import json
import sys
import types
from collections.abc import Iterator
from enum import Enum, auto
from typing import Any

import torch
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse


class MoveDirectionality(Enum):
    UNIDIRECTIONAL = auto()
    SWAP = auto()


class LogitsProcessor:
    pass


def install(monkeypatch) -> None:
    """Make `import vllm…` find the two modules that the processors import."""
    for name in ("vllm.v1.sample.logits_processor", "vllm.v1.worker.gpu.sample.logits_processor"):
        steps = name.split(".")
        for end in range(1, len(steps) + 1):
            path = ".".join(steps[:end])
            if path not in sys.modules:
                monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
        module: Any = sys.modules[name]
        module.LogitsProcessor, module.MoveDirectionality = LogitsProcessor, MoveDirectionality
    for name in ("grammar_v1", "grammar_v2"):
        monkeypatch.delitem(sys.modules, f"mmpt.inference.vllm.{name}", raising=False)


def config(folder, speculative: object = None) -> Any:
    return types.SimpleNamespace(model_config=types.SimpleNamespace(model=str(folder)), speculative_config=speculative)


def parameters(argument: str | None) -> Any:
    return types.SimpleNamespace(extra_args=None if argument is None else {"mmpt": argument})


def server(processor: Any, logits_of, rows: int = 4) -> FastAPI:
    """`/v1/models` and a streamed `/v1/completions` of one request at a time, its logits by `logits_of` (ids → [V])."""
    app = FastAPI()

    @app.get("/v1/models")
    async def models() -> dict:
        return {"data": [{"id": "exported", "max_model_len": 512}]}

    @app.post("/v1/completions")
    async def complete(request: Request):
        body = await request.json()
        asked = types.SimpleNamespace(extra_args=body.get("vllm_xargs"))
        try:
            if processor is not None:
                processor.validate_params(asked)
        except ValueError as problem:
            return JSONResponse({"error": {"message": str(problem)}}, 400)
        if not body.get("stream"):
            return {"choices": [{"text": ""}]}
        return StreamingResponse(_lines(processor, logits_of, body, asked), media_type="text/event-stream")

    return app


def _lines(processor: Any, logits_of, body: dict, asked: Any) -> Iterator[str]:
    written: list[int] = []
    processor.update_state(types.SimpleNamespace(batch_size=1, removed=[], added=[(0, asked, body["prompt"], written)], moved=[]))
    for _ in range(body["max_tokens"]):
        logits = processor.apply(logits_of([*body["prompt"], *written])[None].clone())
        written.append(int(torch.argmax(logits[0])))
        yield f"data: {json.dumps({'choices': [{'token_ids': [written[-1]], 'text': ''}]})}\n\n"
        if written[-1] in body["stop_token_ids"]:
            break
    processor.update_state(types.SimpleNamespace(batch_size=0, removed=[0], added=[], moved=[]))
    yield "data: [DONE]\n\n"
