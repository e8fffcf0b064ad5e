"""Conversations: media stand in place whatever the row's form, and what is not understood is listed."""

import base64
import json

import numpy as np
import pytest
from PIL import Image as Picture

from mmpt.data.lost import Lost
from mmpt.data.sources import conversations
from mmpt.document import Image, Speech, Text
from mmpt.media import encode_png, encode_wav

RED = encode_png(Picture.new("RGB", (4, 3), "red"))
SOUND = encode_wav(np.sin(np.arange(1600) / 5).astype(np.float32) * 0.5, 16_000)
PNG_URL = f"data:image/png;base64,{base64.b64encode(RED).decode()}"
BASE64 = base64.b64encode(SOUND).decode()
ANSWER = {"role": "assistant", "content": "Four."}


@pytest.fixture
def built(tmp_path):
    def build(*rows: dict) -> list:
        (tmp_path / "a.png").write_bytes(RED)
        (tmp_path / "q.wav").write_bytes(SOUND)
        (tmp_path / "x.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        config = conversations.Conversations(rows=str(tmp_path / "x.jsonl"))
        return list(config.documents())

    return build


def asked(*pieces, **row) -> dict:
    return {"messages": [{"role": "user", "content": list(pieces)}, ANSWER], **row}


@pytest.mark.parametrize(
    "piece",
    [
        {"type": "image_url", "image_url": {"url": PNG_URL}},
        {"type": "image_url", "image_url": {"url": "a.png"}},
        {"type": "image_url", "image_url": "a.png"},
        {"type": "image", "image": "a.png"},
        {"type": "image", "image": PNG_URL},
        {"type": "image", "url": "a.png"},
        {"type": "audio", "audio": "q.wav"},
        {"type": "audio", "audio_url": "q.wav"},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{BASE64}"}},
        {"type": "input_audio", "input_audio": {"data": BASE64, "format": "wav"}},
        {"type": "input_audio", "input_audio": {"data": "q.wav"}},
    ],
    ids=lambda piece: json.dumps(piece)[:50],
)
def test_pieces_become_media_in_place(built, piece):
    (document,) = built(asked({"type": "text", "text": "before "}, piece, {"type": "text", "text": " after"}))
    before, medium, after, answer = document.parts
    assert (before, after) == (Text("before ", 0.0, "user"), Text(" after", 0.0, "user"))
    kind, data = (Speech, SOUND) if "audio" in piece["type"] else (Image, RED)
    assert isinstance(medium, kind) and medium.data == data and (medium.weight, medium.role) == (0.0, "user")
    assert answer == Text("Four.", 1.0, "assistant", 1)


def test_a_file_url_of_the_folder_is_a_file_of_it_and_nothing_else_is_fetched(built, tmp_path):
    here = {"type": "image", "image": f"file://{tmp_path}/a.png"}
    elsewhere = [{"type": "image", "image": url} for url in ("file:///etc/hostname", "https://host.example/a.png", "../a.png")]
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,@@"}}
    document, *lost = built(asked(here), *map(asked, elsewhere), asked(broken))
    assert document.parts[0].data == RED
    assert all(isinstance(one, Lost) and one.whole for one in lost)
    reasons = ["leads out", "elsewhere is not fetched", "no name of a file", "no base64"]
    assert [reason in one.reason for reason, one in zip(reasons, lost, strict=True)] == [True] * 4


def test_recordings_of_the_row_fill_its_places_and_answers_may_be_spoken(built):
    spoken = {
        "messages": [{"role": "user", "content": "<audio>"}, {"role": "assistant", "content": "Listen: <audio>"}],
        "audios": ["q.wav", {"path": "q.wav"}],
    }
    both = {
        "conversations": [{"from": "human", "value": "what?"}, {"from": "gpt", "value": "x"}],
        "image": "a.png",
        "audio": "q.wav",
    }
    first, second = built(spoken, both)
    assert [type(part) for part in first.parts] == [Speech, Text, Speech]
    assert [(part.weight, part.role, part.turn) for part in first.parts] == [
        (0, "user", 0),
        (1, "assistant", 1),
        (1, "assistant", 1),
    ]
    assert [type(part) for part in second.parts] == [Speech, Text, Image, Text, Text]


def test_what_cannot_be_read_costs_the_conversation_and_says_why(built):
    user = {"role": "user", "content": "<audio> what?"}
    lost = built(
        {"messages": [user, ANSWER]},
        {"messages": [user, ANSWER], "audios": ["none.wav"]},
        {"messages": [{"role": "user", "content": "<video> what?"}, ANSWER]},
        {"messages": [{"role": "user", "content": "what?"}, ANSWER], "videos": ["a.mp4"]},
        asked({"type": "video", "video": "a.mp4"}),
        asked({"type": "document", "file": "a.pdf"}),
        {"messages": [{"role": "tool", "content": "3"}, ANSWER]},
        {"messages": [{"role": "user", "content": "<image> <image>"}, ANSWER], "images": ["a.png"]},
    )
    assert all(isinstance(one, Lost) and one.whole for one in lost)
    for one, reason in zip(
        lost,
        [
            "1 places for recordings (<audio>), but the row names 0 (audios)",
            "no such file",
            "video is not read",
            "video is not read",
            "turn 0: video is not read",
            "turn 0: a piece of the type 'document'",
            "turn 0: no role or no text: the role is 'tool'",
            "2 places for pictures (<image>), but the row names 1 (images)",
        ],
        strict=True,
    ):
        assert reason in one.reason


def test_keys_that_are_not_understood_are_listed_once_and_cost_nothing(built):
    piece = {"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}}
    row = asked(piece, tools=["t"], id="a", videos=None)
    row["messages"][1] = {**ANSWER, "tool_calls": ["t"]}
    found = built(row, row)
    listed = [one for one in found if isinstance(one, Lost)]
    assert [one.reason.partition(":")[0] for one in listed] == ["image_url piece", "tools", "turn"]
    assert not any(one.whole or one.bad for one in listed) and len(found) == 5


def test_a_system_prompt_beside_the_turns_is_their_first(built):
    (document,) = built({**asked({"type": "text", "text": "hello"}), "system": "be kind"})
    assert document.parts[:2] == (Text("be kind", 0.0, "system", 0), Text("hello", 0.0, "user", 1))


def test_turns_of_one_role_stay_apart_and_one_that_says_nothing_stays(built):
    turns = [("user", "a"), ("user", "b"), ("assistant", ""), ("user", "c"), ("assistant", "d")]
    (document,) = built({"messages": [{"role": role, "content": text} for role, text in turns]})
    assert [(part.role, part.turn, part.text) for part in document.parts] == [(r, n, t) for n, (r, t) in enumerate(turns)]
