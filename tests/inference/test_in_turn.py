"""Text and speech in turn are one text and one sound: as it comes and at once, wherever an answer is heard."""

import base64
import io
import sys
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import soundfile
import soxr

from mmpt.chat import ChatConfig
from mmpt.cli import main
from mmpt.data.token_documents import Piece, in_turn
from mmpt.document import Image, Speech, Text
from mmpt.inference.events import Assembler, AudioDelta, PartDone, TextDelta
from mmpt.inference.load import load
from mmpt.inference.server.limits import Limits
from mmpt.inference.server.messages import Deltas
from mmpt.inference.server.request import ChatRequest
from mmpt.inference.server.stopping import StopWords
from mmpt.inference.talk import Talk
from mmpt.tokenizers.in_turn import written_in_turn

from .asking import chunks, post, user
from .live import serving
from .tiny import speech_tokenizer, write_checkpoint

T, S = TURN = (3, 10)
AROUND = 80
"""Samples to either side of a joint: 5 ms."""
ASKED = {"max_new_tokens": 90, "alternate": TURN, "outputs": ("text", "speech"), "text": {"temperature": 1.3},
         "speech": {"temperature": 1.3}}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny"), chat=ChatConfig(template="plain", alternate=TURN)))


@pytest.fixture(scope="module")
def server(model):
    with serving(model, Limits()) as (address, _):
        yield address


def typed(text: str) -> list[dict]:
    return user({"type": "text", "text": text})


def words(model, count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(5, model.tokenizer.vocabulary.text_size, count).tolist()


def codes(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 16, count)


def taught(model, *pairs: tuple[list[int], np.ndarray], turn: tuple[int, int] = TURN) -> list[int]:
    """The ids that a document of such (text, speech) pairs is learned by."""
    vocabulary, empty = model.tokenizer.vocabulary, Speech(b"", "wav", 16_000, 1.0)
    pieces = []
    for text, said in pairs:
        pieces += [Piece(Text(""), 1.0, text), Piece(empty, 1.0, vocabulary.encode_speech(said))]
    return [token for piece in in_turn(pieces, *turn, vocabulary) for token in piece.ids]


def pushed(model, ids, **options) -> list:
    assembler = Assembler(model.tokenizer, **options)
    events = [event for token in ids for event in assembler.push([token])] + list(assembler.finish())
    assert [token for event in events for token in event.ids] == list(ids)
    return events


def parts(events) -> dict:
    done = [event for event in events if isinstance(event, PartDone)]
    assert [event.part for event in done] == list(range(len(done)))
    return {event.part: event.content for event in done}


def sound(part: Speech) -> np.ndarray:
    return soundfile.read(io.BytesIO(part.data), dtype="float32")[0]


def noise(found: np.ndarray, whole: np.ndarray, place: slice = slice(None)) -> float:  # noqa: B008 (frozen)
    """In dB below the whole."""
    assert len(found) == len(whole)
    return 10 * np.log10(np.square(found - whole)[place].mean() / np.square(whole).mean() + 1e-20)


@pytest.mark.parametrize("block", [5, None])
def test_the_sound_is_that_of_all_codes_at_once_and_at_the_joints_too(model, block):
    """27 codes in blocks of 10, 10 and 7, between them text; against the decoder's sound of the 27. `block` None: at the end."""
    tokenizer = SimpleNamespace(**vars(model.tokenizer), alternate=model.tokenizer.alternate)
    tokenizer.speech = speech_tokenizer(block)
    text, said = words(model, 2 * T + 1, 1), codes(27, 2)
    ids = taught(model, (text, said))
    events = pushed(SimpleNamespace(tokenizer=tokenizer), ids)
    heard = np.concatenate([event.samples for event in events if isinstance(event, AudioDelta)])
    (whole,) = tokenizer.speech.decode([said])
    joints = [slice(place * 640 - AROUND, place * 640 + AROUND) for place in (10, 20)]  # 25 codes a second of 16,000 samples
    assert noise(heard, whole) < -80 and all(noise(heard, whole, one) < -80 for one in joints)
    found = parts(events)
    assert [type(part) for part in found.values()] == [Text, Speech]
    assert noise(sound(found[1]), whole.clip(-1, 1)) < -60
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == found[0].text
    vocabulary = model.tokenizer.vocabulary
    for part, wanted in ((0, lambda token: token < vocabulary.text_size), (1, lambda token: token >= vocabulary.text_size)):
        assert [token for event in events if event.part == part for token in event.ids] == list(filter(wanted, ids))
    if block:  # with the first block, long before the end
        first = next(number for number, event in enumerate(events) if isinstance(event, AudioDelta) and len(event.samples))
        assert sum(len(event.ids) for event in events[: first + 1]) <= T + 1 + S
        apart = np.concatenate(tokenizer.speech.decode([said[:10], said[10:20], said[20:]]))
        assert any(noise(apart, whole, one) > -20 for one in joints)  # blocks that know nothing of each other


def test_documents_of_several_sounds_keep_them(model):
    """As documents are learned: only what `in_turn` has cut is joined again."""
    pairs = [(words(model, 7, 1), codes(27, 2)), (words(model, 5, 3), codes(8, 4)), (words(model, T, 5), codes(30, 6))]
    ids = taught(model, *pairs)
    for found in (list(parts(pushed(model, ids)).values()), model.tokenizer.decode(ids)):
        assert [type(part) for part in found] == [Text, Speech] * 3
        for place, (_, said) in enumerate(pairs):
            (whole,) = model.tokenizer.speech.decode([said])
            assert noise(sound(found[2 * place + 1]), whole.clip(-1, 1)) < -60
    vocabulary = model.tokenizer.vocabulary
    for text in (T - 1, T + 1):  # written freely: the text is of another length
        apart = [*words(model, text, 1), *vocabulary.encode_speech(codes(S, 1))] * 2
        assert len(parts(pushed(model, apart))) == len(model.tokenizer.decode(apart)) == 4
    picture = vocabulary.encode_image(np.zeros(vocabulary.codes_per_image, dtype=np.int64))
    between = [*words(model, T, 1), *vocabulary.encode_speech(codes(S, 1)), *picture, *vocabulary.encode_speech(codes(S, 1))]
    kinds = [Text, Speech, Image, Speech]
    assert [type(part) for part in parts(pushed(model, between)).values()] == kinds
    assert [type(part) for part in model.tokenizer.decode(between)] == kinds


@pytest.mark.parametrize("seed", range(3))
def test_an_answer_as_it_comes_and_at_once(model, seed):
    (answer,) = model.answer([[Text("the red")]], seed=seed, **ASKED)
    events = list(model.stream([Text("the red")], seed=seed, **ASKED))
    vocabulary = model.tokenizer.vocabulary
    assert [token for event in events for token in event.ids] == answer.ids
    assert answer.ids.count(vocabulary.special("<|speech|>")) > 2
    text, said = parts(events).values()
    assert answer.parts[0] == text and noise(sound(answer.parts[1]), sound(said)) < -60
    blocks = [event.ids for event in events if event.part == 1]
    own = [token for ids in blocks for token in ids]
    assert written_in_turn([token for token in answer.ids if token < vocabulary.text_size], own, vocabulary, TURN) == answer.ids


def test_the_server_gives_one_sound_whole_and_in_a_stream(model, server):
    body = {"messages": typed("the red"), "modalities": ["text", "audio"], "audio": {"format": "pcm16"}, "alternate": [4, 15],
            "max_tokens": 90, "seed": 1, "temperature": 1.3, "return_token_ids": True}  # fmt: skip
    choice = post(server, **body).json()["choices"][0]
    text, said = choice["message"]["parts"]
    whole, rate = soundfile.read(io.BytesIO(base64.b64decode(said["input_audio"]["data"])), dtype="float32")
    all_sound = np.frombuffer(base64.b64decode(choice["message"]["audio"]["data"]), "<i2") / 32767
    offset = model.tokenizer.vocabulary.speech_offset
    written = np.array([token for token in choice["token_ids"] if token >= offset]) - offset
    (wanted,) = model.tokenizer.speech.decode([written])
    assert (
        len(written) > 30
        and noise(whole, wanted.clip(-1, 1)) < -60
        and np.abs(all_sound - soxr.resample(whole, rate, 24_000)).max() < 1e-3
    )
    assert choice["message"]["content"] == choice["message"]["audio"]["transcript"] == text["text"]
    with httpx.stream("POST", f"{server}/v1/chat/completions", json={**body, "stream": True}, timeout=60) as response:
        found = chunks(response)
    assert [token for chunk in found for token in chunk["choices"][0]["token_ids"]] == choice["token_ids"]
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    pieces = [base64.b64decode(delta["audio"]["data"]) for delta in deltas if "data" in delta.get("audio", {})]
    heard = np.frombuffer(b"".join(pieces), "<i2") / 32767
    assert np.abs(heard - soxr.resample(whole, rate, 24_000)).max() < 1e-3
    assert [delta["type"] for delta in deltas if delta.get("done")] == ["text", "input_audio"]
    # Sent back by the ids of its parts, it stands in the prompt as it was written.
    again = {"role": "assistant", "parts": choice["message"]["parts"]}
    asked = ChatRequest.model_validate({"messages": [*typed("a"), again, *typed("b")]})
    (prompt,) = model.prompts([asked.parts(Limits(), model.tokenizer.chat)])
    places = range(len(prompt.ids))
    assert any(prompt.ids[place : place + len(choice["token_ids"])] == choice["token_ids"] for place in places)


def test_where_an_answer_is_broken_off_its_sound_is_what_was_spoken(model):
    ids = taught(model, (words(model, 9, 1), codes(50, 2)))
    assembler = Assembler(model.tokenizer)
    events = [event for token in ids[: T + 2 + S + 1] for event in assembler.push([token])]
    heard = np.concatenate([event.samples for event in events if isinstance(event, AudioDelta)])
    text, said = parts([*events, *assembler.broken_off()]).values()
    assert len(heard) and np.abs(sound(said) - heard.clip(-1, 1)).max() < 1e-4
    assert text.text == "".join(event.text for event in events if isinstance(event, TextDelta))


def test_ids_keep_their_order_where_a_stop_word_may_have_begun(model):
    text = model.tokenizer.text.encode("the red circle", add_special_tokens=False)
    turn = (len(model.tokenizer.text.encode("the red", add_special_tokens=False)), S)
    ids = taught(model, (text, codes(27, 2)), turn=turn)
    stop, assembler = StopWords(["red square"]), Assembler(model.tokenizer, alternate=turn)
    events = [event for token in ids for event in stop(list(assembler.push([token])))] + stop(list(assembler.finish()))
    assert [token for event in events for token in event.ids] == ids and not stop.found
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "the red circle"
    deltas = Deltas(SimpleNamespace(name="a", events=events))
    assert [token for _, own in deltas(events) for token in own] == ids


def test_in_the_terminal_one_file_and_the_next_turn_reads_what_was_written(model, tmp_path, monkeypatch, capsys):
    talk = Talk(model, {**ASKED, "seed": 1})
    events = list(talk.ask([Text("the red")]))
    turn = talk.turns[-1]
    assert [type(part) for part in turn.parts] == [Text, Speech]
    assert turn.ids == [token for event in events for token in event.ids]
    talk.turns.append(talk.turns[0])
    (prompt,) = model.prompts([talk.prompt()])
    assert any(prompt.ids[place : place + len(turn.ids)] == turn.ids for place in range(len(prompt.ids)))
    run = write_checkpoint(tmp_path / "run", chat=ChatConfig(template="plain", alternate=TURN))
    asked = ["--text", "the red", "--alternate", *map(str, TURN), "--to", "text", "speech", "--max-tokens", "90"]
    monkeypatch.setattr(sys, "argv", ["mmpt", "generate", str(run), *asked, "--out", str(tmp_path / "out")])
    main()
    (file,) = (tmp_path / "out").iterdir()
    assert capsys.readouterr().out.rstrip().endswith(file.name) and file.suffix == ".wav"
