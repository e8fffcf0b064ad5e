"""Realtime sessions by the official client."""

import base64
import time
from contextlib import contextmanager

import numpy as np
import pytest

openai = pytest.importorskip("openai", reason="the openai client is not installed")
RATE = 24_000
HOT = {"temperature": 1.3, "max_output_tokens": 60, "alternate": [3, 8]}  # in turn: so it is sure to speak


def pcm(samples: np.ndarray) -> str:
    return base64.b64encode((samples * 32767).astype("<i2").tobytes()).decode()


def silence(seconds: float) -> np.ndarray:
    return np.zeros(int(seconds * RATE), dtype=np.float32)


class Talk:
    """A session by the official client; `until` reads events up to one of a type."""

    def __init__(self, connection) -> None:
        self.connection, self.events = connection, []

    def until(self, kind: str, seconds: float = 30.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            event = self.connection.recv()
            self.events.append(event)
            if event.type == kind:
                return event
            assert event.type != "error" or kind == "error", event.error.message
        raise AssertionError(f"no {kind} among {self.kinds}")

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    def say(self, samples: np.ndarray, piece: float = 0.1) -> None:
        size = int(piece * RATE)
        for start in range(0, len(samples), size):
            self.connection.input_audio_buffer.append(audio=pcm(samples[start : start + size]))

    def by_hand(self, **more) -> None:
        self.connection.session.update(session={"type": "realtime", "audio": {"input": {"turn_detection": None}}, **HOT, **more})
        self.until("session.updated")


@contextmanager
def talking(address: str, **options):
    client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=60)
    with client.realtime.connect(model="tiny", **options) as connection:
        talk = Talk(connection)
        assert talk.until("session.created").session.model == "tiny"
        talk.until("conversation.created")
        yield talk


def idle(service) -> None:
    for _ in range(200):
        if not service.taken:
            return
        time.sleep(0.02)
    raise AssertionError("its place in the engine is not free")
