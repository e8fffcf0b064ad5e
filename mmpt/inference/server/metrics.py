"""What the server counts of itself, for Prometheus."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mmpt.inference.server.limits import Limits
from mmpt.inference.server.service import Keys
from mmpt.inference.server.tokens import Counts

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Of one server. `taken`: requests for the engine that wait or run; `most`: how many run at once. `keys`: what the keys and
    values take."""

    def __init__(self, taken: Callable[[], int], most: int, keys: Callable[[], Keys], limits: Limits) -> None:
        self.registry = found = CollectorRegistry()
        self._requests = Counter("mmpt_requests", "Requests answered.", ["route", "status"], registry=found)
        self._seconds = Histogram("mmpt_request_seconds", "Until the last byte.", ["route"], buckets=_SECONDS, registry=found)
        running = Gauge("mmpt_sequences_running", "Sequences that are written.", registry=found)
        running.set_function(lambda: min(taken(), most))
        waiting = Gauge("mmpt_sequences_waiting", "Sequences that wait for their turn.", registry=found)
        waiting.set_function(lambda: max(0, taken() - most))
        found.register(_KeysAndValues(keys, limits))
        self._read = Counter("mmpt_prompt_tokens", "Tokens of prompts.", ["modality"], registry=found)
        self._written = Counter("mmpt_generated_tokens", "Tokens of answers.", ["modality"], registry=found)
        self._first = Histogram(
            "mmpt_time_to_first_token_seconds", "From the request to the first token.", buckets=_SECONDS, registry=found
        )
        self._sound = Histogram(
            "mmpt_time_to_first_audio_seconds", "From the request to the first sound.", buckets=_SECONDS, registry=found
        )
        self._token = Histogram("mmpt_time_per_token_seconds", "Between tokens.", buckets=_TOKEN_SECONDS, registry=found)

    def text(self) -> bytes:
        """All, in Prometheus' text form."""
        return generate_latest(self.registry)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request of `route` was answered so."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def tokens(self, prompt: Counts, written: Counts) -> None:
        """An answer has ended."""
        for counter, counts in ((self._read, prompt), (self._written, written)):
            for modality, count in counts.items():
                counter.labels(modality).inc(count)

    def watch(self) -> "Watch":
        """The clock of an answer, from now on."""
        return Watch(self._first, self._token, self._sound)


class _KeysAndValues(Collector):
    """Asked of the engine as it last told."""

    def __init__(self, keys: Callable[[], Keys], limits: Limits) -> None:
        self._keys, self._limits = keys, limits

    def collect(self) -> Iterator[Metric]:
        """The figures as they are now."""
        held, reused = self._keys()
        bound = float("inf") if self._limits.kv_tokens is None else self._limits.kv_tokens
        for name, meaning, value in (
            ("used", "Tokens for whose keys and values the sequences that are written have room.", held.used),
            ("kept", "Tokens of ended sequences whose keys and values are kept.", held.kept),
            ("limit", "Most tokens of keys and values, used and kept together.", bound),
            ("kept_limit", "Most tokens of them that are kept.", self._limits.kept_tokens),
        ):
            yield GaugeMetricFamily(f"mmpt_key_value_{name}_tokens", meaning, value)
        yield CounterMetricFamily("mmpt_prompt_reused_tokens", "Tokens of prompts that did not have to be read.", reused)


class Watch:
    """Takes the times of one answer."""

    def __init__(self, first: Histogram, token: Histogram, sound: Histogram) -> None:
        self._first, self._token, self._sound = first, token, sound
        self._begun = time.perf_counter()
        self._last: float | None = None
        self._sounded = False

    def written(self, count: int) -> None:
        """So many tokens are there."""
        now = time.perf_counter()
        if self._last is None:
            self._first.observe(now - self._begun)
        else:
            self._token.observe((now - self._last) / count)
        self._last = now

    def sounded(self) -> None:
        """Sound is there."""
        if not self._sounded:
            self._sounded = True
            self._sound.observe(time.perf_counter() - self._begun)


class Counting:
    """Counts each request by its route, as the routes are written down, and its status; 499: its client has gone before."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 499

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(route, status, time.perf_counter() - begun)
