"""A server of the tiny checkpoint on a port of its own, in a thread."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from mmpt.inference.load import MultimodalModel
from mmpt.inference.server.api import build_app
from mmpt.inference.server.connections import options
from mmpt.inference.server.limits import Limits
from mmpt.model.prompts import Prompts


@contextmanager
def serving(
    model: MultimodalModel,
    limits: Limits = Limits(),  # noqa: B008
    token: str | None = None,
    prompts: Prompts = Prompts(),  # noqa: B008
    **processes,
) -> Iterator[tuple[str, object]]:
    """(its address, its `Service`). `processes`: `decode` and `writer` of `build_app`."""
    app = build_app(model, "tiny", limits, token, prompts=prompts, **processes)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", **options(limits)))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", app.state.service
    finally:
        server.should_exit = True
        thread.join(20)
