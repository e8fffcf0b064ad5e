"""`/v1/realtime` as OpenAI's client speaks it: turns by voice and by hand, answers in text and sound, broken off and cut."""

import base64
import threading
from dataclasses import replace

import numpy as np
import pytest
import soxr

from mmpt.chat import ChatConfig
from mmpt.data.synthetic.espeak import Speaker
from mmpt.data.synthetic.read_aloud import read_aloud
from mmpt.inference.load import load
from mmpt.inference.server.realtime_events import Session
from mmpt.inference.server.realtime_sound import SoundIn, SoundOut
from mmpt.media import decode_speech

from .asking import data_url, limits
from .live import serving
from .talking import HOT, RATE, idle, pcm, silence, talking
from .tiny import write_checkpoint


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """That of a conversation: ids of an answer must be found in the next prompt."""
    return load(write_checkpoint(tmp_path_factory.mktemp("tiny"), chat=ChatConfig(template="plain")))


@pytest.fixture(scope="module")
def server(model):
    with serving(model, replace(limits(), sound=8.0, prompt_tokens=2000)) as found:
        yield found


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """Somebody speaks for about a second: float32 at 24 kHz."""
    with Speaker() as speaker:
        said = read_aloud(speaker, "a large blue circle on the left", "en-us")
    return soxr.resample(decode_speech(said.data), 16_000, RATE).astype(np.float32)


def test_a_turn_by_hand_is_answered_in_sound_and_text(server, speech):
    with talking(server[0]) as talk:
        talk.by_hand()
        talk.say(speech)
        talk.connection.input_audio_buffer.commit()
        committed = talk.until("input_audio_buffer.committed")
        assert talk.until("conversation.item.done").item.id == committed.item_id
        talk.connection.response.create()
        done = talk.until("response.done").response
    kinds = talk.kinds[talk.kinds.index("response.created") :]
    assert kinds[:4] == [
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
    ]
    assert kinds[-6:] == ["response.output_audio.done", "response.output_audio_transcript.done", "response.content_part.done",
                          "response.output_item.done", "conversation.item.done", "response.done"]  # fmt: skip
    assert done.status in ("completed", "incomplete") and done.output[0].role == "assistant"
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    assert done.usage.input_token_details.audio_tokens >= 10 and done.usage.output_token_details.audio_tokens > 0
    text = "".join(event.delta for event in talk.events if event.type == "response.output_audio_transcript.delta")
    assert text == done.output[0].content[0].transcript
    sound = b"".join(base64.b64decode(event.delta) for event in talk.events if event.type == "response.output_audio.delta")
    # Whole codes of 80 ms, at 24 kHz.
    codes = done.usage.output_token_details.audio_tokens
    assert len(sound) // 2 == pytest.approx(0.08 * RATE * codes, abs=RATE * 0.005)


def test_text_alone_and_what_is_said_out_of_the_conversation(server):
    with talking(server[0]) as talk:
        talk.by_hand(output_modalities=["text"], instructions="be brief")
        talk.connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "the red"},
                                                                 {"type": "input_image", "image_url": data_url()}]},
        )  # fmt: skip
        item = talk.until("conversation.item.done").item
        talk.connection.response.create(response={"metadata": {"of": "test"}})
        done = talk.until("response.done").response
        assert done.metadata == {"of": "test"} and done.output[0].content[0].type == "output_text"
        assert done.usage.input_token_details.image_tokens == 5 and done.usage.output_token_details.audio_tokens == 0
        text = "".join(event.delta for event in talk.events if event.type == "response.output_text.delta")
        assert text == done.output[0].content[0].text
        aside = {"conversation": "none", "input": [{"type": "item_reference", "id": item.id}], "instructions": ""}
        talk.connection.response.create(response=aside)
        other = talk.until("response.done").response
        assert other.conversation_id is None and other.usage.input_tokens < done.usage.input_tokens
        talk.connection.conversation.item.retrieve(item_id=other.output[0].id)
        assert "no item" in talk.until("error").error.message


def test_speech_is_heard_and_answered_and_silence_is_not(server, speech):
    with talking(server[0]) as talk:
        talk.connection.session.update(session={"type": "realtime", **HOT, "max_output_tokens": 12})
        talk.until("session.updated")
        talk.say(np.concatenate([silence(1.5), speech, silence(1.0)]))
        begun = talk.until("input_audio_buffer.speech_started")
        # 300 ms before the speech, to a few windows of 32 ms.
        assert begun.audio_start_ms == pytest.approx(1200, abs=200)
        stopped = talk.until("input_audio_buffer.speech_stopped")
        assert stopped.item_id == begun.item_id
        assert stopped.audio_end_ms == pytest.approx(1500 + 1000 * len(speech) / RATE + 300, abs=300)
        assert talk.until("input_audio_buffer.committed").item_id == begun.item_id
        talk.until("response.done")
        talk.connection.conversation.item.retrieve(item_id=begun.item_id)
        kept = base64.b64decode(talk.until("conversation.item.retrieved").item.content[0].audio)
        assert len(kept) / 2 / RATE == pytest.approx((stopped.audio_end_ms - begun.audio_start_ms) / 1000, abs=0.01)
        assert talk.kinds.count("response.created") == 1


def test_who_speaks_into_an_answer_breaks_it_off_and_frees_its_place(server, speech):
    address, service = server
    with talking(address) as talk:
        talk.connection.session.update(session={"type": "realtime", **HOT, "max_output_tokens": 1900})
        talk.until("session.updated")
        talk.say(np.concatenate([silence(0.4), speech, silence(0.8)]))
        talk.until("response.output_audio.delta")
        talk.say(speech)
        done = talk.until("response.done").response
        assert done.status == "cancelled" and done.status_details.reason == "turn_detected"
        assert talk.kinds.index("response.done") > len(talk.kinds) - 1 - talk.kinds[::-1].index(
            "input_audio_buffer.speech_started"
        )
        assert done.output[0].status == "incomplete"
        # Nothing of it comes afterwards, and what was said by voice is answered next.
        idle(service)
        talk.say(silence(0.8))
        other = talk.until("response.created").response
        assert other.id != done.id
        talk.connection.response.cancel()
        cancelled = talk.until("response.done").response
        assert cancelled.id == other.id and cancelled.status_details.reason == "client_cancelled"
        idle(service)


def test_the_conversation_holds_what_was_heard(server, model):
    def read(talk) -> int:
        talk.connection.response.create(response={"conversation": "none", "max_output_tokens": 1, "output_modalities": ["text"]})
        return talk.until("response.done").response.usage.input_token_details.audio_tokens

    with talking(server[0]) as talk:
        talk.by_hand(seed=1)
        talk.connection.conversation.item.create(
            item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "the"}]}
        )
        talk.connection.response.create()
        done = talk.until("response.done").response
        item, codes = done.output[0].id, done.usage.output_token_details.audio_tokens
        assert codes > 4 and read(talk) == codes
        talk.connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=10**7)
        assert "lasts" in talk.until("error").error.message
        talk.connection.conversation.item.truncate(item_id=item, content_index=0, audio_end_ms=250)
        assert talk.until("conversation.item.truncated").audio_end_ms == 250
        assert read(talk) == 3  # whole codes of 80 ms
        talk.connection.conversation.item.delete(item_id=item)
        assert talk.until("conversation.item.deleted").item_id == item
        assert read(talk) == 0


def test_what_is_wrong_is_told_and_the_session_goes_on(server):
    with talking(server[0]) as talk:
        talk.by_hand()

        def told(event: dict) -> str:
            talk.connection.send({"event_id": "mine", **event})
            error = talk.until("error").error
            assert error.event_id in ("mine", None) and error.type == "invalid_request_error"
            return error.message

        wrong = [
            ({"type": "no.such"}, "no.such"),
            ({"type": "input_audio_buffer.append", "audio": "!"}, "base64"),
            ({"type": "input_audio_buffer.append", "audio": "A" * 10**6}, "more than 8 s"),
            ({"type": "input_audio_buffer.commit"}, "0 ms of sound"),
            ({"type": "response.cancel"}, "no response"),
            ({"type": "response.create"}, None),
            ({"type": "conversation.item.delete", "item_id": "x"}, "no item 'x'"),
            ({"type": "conversation.item.create", "item": {"type": "function_call", "name": "f", "arguments": ""}}, "role"),
            ({"type": "session.update", "session": {"model": "other"}}, "does not exist"),
            ({"type": "session.update", "session": {"audio": {"input": {"noise_reduction": {"type": "near_field"}}}}}, "noise"),
            ({"type": "session.update", "session": {"tools": [{"type": "function", "name": "f"}]}}, "tools"),
            ({"type": "session.update", "session": {"output_modalities": ["text", "audio"]}}, "output_modalities"),
        ]  # fmt: skip
        for event, expected in wrong:
            if expected is None:
                talk.connection.send({"event_id": "mine", **event})
                failed = talk.until("response.done").response
                assert failed.status == "failed" and "nothing to answer" in failed.status_details.error.message
            else:
                assert expected in told(event)
        for raw in ("{", "[]", "\x00", '"' + "a" * 1000):
            talk.connection.send_raw(raw)
            assert talk.until("error").error.message


def test_telephone_sound_and_a_transcript_of_what_was_heard(server, speech):
    with talking(server[0]) as talk:
        talk.by_hand(audio={"input": {"turn_detection": None, "format": {"type": "audio/pcmu"}, "transcription": {}},
                            "output": {"format": {"type": "audio/pcmu"}}})  # fmt: skip
        telephone = SoundOut(
            Session.model_validate({"audio": {"output": {"format": {"type": "audio/pcmu"}}}}).audio.output.format, RATE
        )
        for piece in telephone.push(speech, last=True):
            talk.connection.input_audio_buffer.append(audio=piece)
        talk.connection.input_audio_buffer.commit()
        heard = talk.until("conversation.item.input_audio_transcription.completed")
        assert heard.usage.seconds == pytest.approx(len(speech) / RATE, abs=0.01)
        talk.connection.response.create()
        done = talk.until("response.done").response
        sound = b"".join(base64.b64decode(event.delta) for event in talk.events if event.type == "response.output_audio.delta")
        assert len(sound) == pytest.approx(640 * done.usage.output_token_details.audio_tokens, abs=40)


def test_sound_that_comes_in_pieces_is_that_of_the_whole(speech):
    form = Session().audio.input.format
    whole_sound = SoundIn(form).push(pcm(speech), last=True)
    pieces = SoundIn(form)
    data = base64.b64decode(pcm(speech))
    found = [pieces.push(base64.b64encode(data[start : start + 777]).decode()) for start in range(0, len(data), 777)]
    found = np.concatenate([*found, pieces.push("", last=True)])
    assert len(found) == len(whole_sound) == pytest.approx(len(speech) * 2 / 3, abs=2)
    assert np.abs(found - whole_sound).max() < 1e-6
    # soxr of the whole as it was, to the step of 16 bits.
    assert np.abs(found - soxr.resample(speech, RATE, 16_000)[: len(found)]).max() < 1e-3


def test_several_at_once_are_not_mixed(server):
    found: dict[int, list[str]] = {0: [], 1: []}

    def ask(number: int) -> None:
        with talking(server[0]) as talk:
            talk.by_hand(output_modalities=["text"], seed=number)
            for _ in range(3):
                aside = {"conversation": "none", "input": [{"type": "message", "role": "user", "content": [
                    {"type": "input_text", "text": f"number {number}"}]}]}  # fmt: skip
                talk.connection.response.create(response=aside)
                found[number].append(talk.until("response.done").response.output[0].content[0].text)

    threads = [threading.Thread(target=ask, args=(number,)) for number in found]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert all(len(texts) == 3 and len(set(texts)) == 1 for texts in found.values()) and found[0] != found[1]
