"""A conversation by voice over /v1/realtime: what is heard, what is said, and how soon.

    OMP_NUM_THREADS=1 python recipes/benches/voice.py RUN SAID.jsonl RECOGNISER

RUN: a model that repeats what it hears, text and speech in turn; SAID.jsonl: rows {said: sentence} that it has not learned;
RECOGNISER: a speech recogniser of transformers. Each sentence is read aloud by espeak-ng, comes as from a microphone between two
silences, in pieces of 100 ms at the speed of speech, and is found by the server's detector. Writes recipes/results/voice.json.

The model, of a finished quickstart, with its data (about 10 minutes on a core):

    python tokenizers/train.py tokenizers/vocoder.yaml runs/vocoder 'data=[runs/quickstart/shards/train]'
    python tokenizers/train.py tokenizers/speaking_blocks.yaml runs/speaking_blocks
    python recipes/spoken_repeats.py data/said
    python datasets/build.py datasets/specs/spoken_repeats.yaml shards/repeats
    python datasets/to_tokens.py datasets/specs/to_tokens.yaml shards/repeats tokens/repeats \\
        text=runs/quickstart/text_tokenizer speech=runs/speaking_blocks/tokenizer \\
        image=runs/quickstart/image_tokenizer/tokenizer 'arrangements=[]' 'chat={template: plain, alternate: [4, 8]}'
    python recipes/train.py recipes/voice.yaml
    python recipes/benches/voice.py runs/voice data/said/test.jsonl openai/whisper-base

The time of a block is that of its codes at the model's own speed, in the sound as it comes: pieces before which text was written
do not count.
"""

import base64
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import jiwer
import numpy as np
import openai
import serving

from mmpt.data.hearing.recogniser import ListenerConfig, recognise
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.inference.load import load
from mmpt.media import decode_speech, resampled
from mmpt.results import Figure, gather
from mmpt.scripts import main_guard, script_parser

COUNT, RATE, PIECE = 16, 24_000, 0.1
VOICES = ("en-us", "en-us+f3", "en-us+m3", "en-gb-scotland")


class Turn(NamedTuple):
    """One sentence, `asked` float32 at 16 kHz: what the server heard, the answer in text and in sound, float32 at 24 kHz;
    seconds from the end of what was said to its answer's first sound, of those the silence that the detector waits for, from the
    response's begin to that sound, then of each piece of it for how long it was waited and how long it lasts."""

    asked: np.ndarray
    heard: str
    written: str
    sound: np.ndarray
    waited: float
    silence: float
    first: float
    pieces: list[tuple[float, float]]


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    for name in ("run", "said", "recogniser"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    arguments = parser.parse_args()
    said = [json.loads(line)["said"] for line in arguments.said.read_text(encoding="utf-8").splitlines()][:COUNT]
    port = random.randrange(20_000, 32_000)
    command = [sys.executable, "-m", "mmpt.cli", "serve", str(arguments.run), "--port", str(port)]
    server = subprocess.Popen(command, env={"OMP_NUM_THREADS": "1", **os.environ})
    try:
        address = f"http://127.0.0.1:{port}"
        serving.wait(address, server)
        turns = talked(address, said)
        server.terminate()
        passed = gather(
            measured(said, turns, arguments.run, str(arguments.recogniser)), serving.ROOT / "recipes" / "results" / "voice.json"
        )
    finally:
        server.terminate()
        server.wait(20)
    sys.exit(0 if passed else 1)


def talked(address: str, said: Sequence[str]) -> list[Turn]:
    """Each sentence in a session of its own."""
    client, found = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0), []
    with Speaker() as speaker:
        for number, sentence in enumerate(said):
            read = decode_speech(read_aloud(speaker, sentence, VOICES[number % len(VOICES)]).data)
            with client.realtime.connect() as connection:
                found.append(turn(connection, resampled(read, 16_000, RATE)))
    return found


def turn(connection: Any, samples: np.ndarray) -> Turn:
    quiet = np.zeros(RATE, dtype=np.float32)
    heard = [
        *np.split(
            np.concatenate([quiet[: RATE // 2], samples, quiet]),
            range(int(PIECE * RATE), len(samples) + 3 * RATE // 2, int(PIECE * RATE)),
        )
    ]
    connection.session.update(session={"type": "realtime", "audio": {"input": {"transcription": {}}}})
    ends: list[float] = []

    def speak() -> None:
        begun = time.perf_counter()
        for number, piece in enumerate(heard):
            time.sleep(max(0.0, begun + number * PIECE - time.perf_counter()))
            connection.input_audio_buffer.append(audio=base64.b64encode((piece * 32767).astype("<i2").tobytes()).decode())
        ends.append(begun + 0.5 + len(samples) / RATE)

    speaking = threading.Thread(target=speak)
    speaking.start()
    at: dict[str, float] = {}
    transcript, pieces, times, written, done = "", [], [], [], None
    while done is None or not transcript:
        event = connection.recv()
        at.setdefault(event.type, time.perf_counter())
        if event.type == "error":
            raise RuntimeError(event.error.message)
        if event.type == "response.output_audio.delta":
            times.append(time.perf_counter())
            pieces.append(np.frombuffer(base64.b64decode(event.delta), dtype="<i2"))
        elif event.type == "response.output_audio_transcript.delta":
            written.append(time.perf_counter())
        elif event.type == "conversation.item.input_audio_transcription.completed":
            transcript = event.transcript or "?"
        elif event.type == "response.done":
            done = event.response
    speaking.join()
    sound = np.concatenate(pieces).astype(np.float32) / 32768 if pieces else np.zeros(RATE // 10, dtype=np.float32)
    first, end = (times or [time.perf_counter()])[0], ends[0]
    return Turn(
        resampled(samples, RATE, 16_000),
        transcript,
        done.output[0].content[0].transcript or "",
        sound,
        first - end,
        at["input_audio_buffer.speech_stopped"] - end,
        first - at["response.created"],
        [
            (now - before, len(piece) / RATE)
            for before, now, piece in zip(times, times[1:], pieces[1:], strict=False)
            if not any(before <= time <= now for time in written)
        ],
    )


def measured(said: Sequence[str], turns: Sequence[Turn], run: Path, recogniser: str) -> Iterator[Figure]:
    yield Figure("sentences by voice", len(turns), COUNT)
    yield Figure(
        "word error rate of what is heard, by the model's own codes", wer(said, [one.heard for one in turns]), 0.1, at_most=True
    )
    yield Figure("of the answer's text against what was said", wer(said, [one.written for one in turns]), 0.1, at_most=True)
    sounds = [resampled(one.sound, RATE, 16_000) for one in turns]
    tokenizer = load(run).tokenizer
    own = tokenizer.speech
    yield Figure("of the answer's sound, as the model's own codes read it", wer(said, own.recognize(sounds)), 0.25, at_most=True)
    tokens, codes = tokenizer.alternate()
    yield Figure("tokens of text, in turn with codes of speech", tokens)
    yield Figure("codes of speech in a block of these", codes)
    pieces = [piece for one in turns for piece in one.pieces if piece[0] > 1e-3]
    code = median(waited / (lasts * own.figures.rate) for waited, lasts in pieces)
    first = median(one.first for one in turns)
    yield Figure("milliseconds of a block, written and decoded", 1000 * codes * code)
    yield Figure("from the response's begin to its first sound, over that", first / (codes * code), 3, at_most=True)
    step = median(waited for waited, _ in pieces)
    yield Figure("milliseconds between two pieces of sound, what the decoder speaks at once, median", 1000 * step)
    yield Figure("from the response's begin to its first sound, over that of a piece", first / step)
    lasts = median(lasts for _, lasts in pieces)
    yield Figure("and over the time that a piece of sound lasts", first / lasts, 3, at_most=True)
    yield Figure("milliseconds from the end of speech to the answer's first sound", 1000 * median(one.waited for one in turns))
    yield Figure("of those, what the detector waits", 1000 * median(one.silence for one in turns))
    listener = ListenerConfig(model=recogniser, language="english")
    yield Figure("of the answer's sound, as another recogniser reads it", wer(said, recognise(listener, sounds)))
    yield Figure(
        "of what was read aloud, as that recogniser reads it", wer(said, recognise(listener, [one.asked for one in turns]))
    )


def wer(said: Sequence[str], read: Sequence[str]) -> float:
    def plain(text: str) -> str:
        return "".join(character for character in text.lower() if character.isalnum() or character == " ").strip() or "nothing"

    return jiwer.wer([plain(one) for one in said], [plain(one) for one in read])


if __name__ == "__main__":
    main()
