"""Sources of rows: every format gives the same rows, every cut the same documents, and every bad row its reason."""

import csv
import datetime
import gzip
import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from mmpt.data.formats import rows, rows_lines
from mmpt.data.lost import Lost
from mmpt.data.sources import aligned_lists, conversations, image_text_table, mmc4, plain_text
from mmpt.data.store import Store
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def read(config) -> list:
    return list(config.documents())


def parts(document: Document) -> list:
    return [part.data if isinstance(part, Image) else part.text for part in document.parts]


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for value in range(5):
        (folder / f"{value}.png").write_bytes(png(value))
    return folder


def test_every_format_gives_the_same_texts(tmp_path):
    content = [{"text": f'line {n}, "quoted" é', "lang": "en"} for n in range(5)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content).encode()
    for name in "abcdef":
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x.jsonl").write_bytes(lines)
    (tmp_path / "b" / "x.jsonl.gz").write_bytes(gzip.compress(lines))
    (tmp_path / "c" / "x.json").write_text(json.dumps(content))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), tmp_path / "d" / "x.parquet", row_group_size=2)
    with open(tmp_path / "e" / "x.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "lang"])
        writer.writeheader()
        writer.writerows(content)
    for number, row in enumerate(content):
        (tmp_path / "f" / f"{number}.txt").write_text(row["text"], encoding="utf-8")
    for name in "abcdef":
        found = read(plain_text.PlainText(path=str(tmp_path / name), meta=("lang",)))
        assert [parts(one) for one in found] == [[row["text"]] for row in content], name
        assert len({one.id for one in found}) == 5
        assert name == "f" or found[0].meta == {"lang": "en"}
    single = read(plain_text.PlainText(path=str(tmp_path / "a" / "x.jsonl"), name="corpus"))
    assert [one.source for one in single] == ["corpus"] * 5
    store = Store("memory://rows-test/a")
    store.write("x.jsonl", lines)
    assert read(plain_text.PlainText(path="memory://rows-test/a", name="x"))[4].parts == (Text(content[4]["text"]),)


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1, max_size=30), max_size=20),
       st.integers(1, 60), st.booleans())  # fmt: skip
def test_ranges_of_any_size_give_every_line_once(tmp_path, monkeypatch, texts, size, ends):
    monkeypatch.setattr(rows, "UNIT_BYTES", size)
    monkeypatch.setattr(rows, "LEAST_BYTES", 1)
    data = "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts).encode() + (b"\n" if ends else b"")
    (tmp_path / "x.jsonl").write_bytes(data)
    if not data:
        return
    found = [
        one[1]["text"]
        for unit in rows.row_units(str(tmp_path / "x.jsonl"))
        for one in rows.read_rows(str(tmp_path / "x.jsonl"), unit.what)
    ]
    assert found == texts


def test_bad_rows_are_listed_where_they_lie(tmp_path):
    lines = [
        b'{"text": "good"}',
        b'{"text": ',
        b"[1]",
        b'{"text": 5}',
        b'{"text": "\xff"}',
        b'{"other": "x"}',
        b'{"text": "end"}',
    ]
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(lines))
    found = read(plain_text.PlainText(path=str(tmp_path / "x.jsonl")))
    assert [parts(one) for one in found if isinstance(one, Document)] == [["good"], ["end"]]
    lost = [one for one in found if isinstance(one, Lost)]
    offsets = [0, *itertools.accumulate(len(line) + 1 for line in lines)]
    assert [one.item.rpartition(" ")[2] for one in lost] == [str(offset) for offset in offsets[1:6]]
    (tmp_path / "x.jsonl").unlink()
    (tmp_path / "y.jsonl.gz").write_bytes(gzip.compress(b'{"text": "good"}\n' * 1000)[:-12])
    (last,) = [one for one in read(plain_text.PlainText(path=str(tmp_path))) if isinstance(one, Lost)]
    assert "damaged compression" in last.reason
    (tmp_path / "y.jsonl.gz").unlink()
    (tmp_path / "z.csv").write_text("text,a\none,1\ntwo\nthree,3\n")
    found = read(plain_text.PlainText(path=str(tmp_path)))
    assert [type(one) for one in found] == [Document, Lost, Document]
    with pytest.raises(ConfigError, match="no such"):
        plain_text.PlainText(path=str(tmp_path / "none")).units()


def test_tables_pair_pictures_and_texts_or_list_the_row(tmp_path, pictures):
    table = "file,caption\n0.png,zero\nnone.png,x\n1.png,\n../secret.png,x\n2.png,two\n"
    (tmp_path / "pairs.csv").write_text(table)
    (tmp_path / "secret.png").write_bytes(png(9))
    config = image_text_table.ImageTextTable(
        table=str(tmp_path / "pairs.csv"), images=str(pictures), image="file", text="caption"
    )
    found = read(config)
    assert [parts(one) for one in found if isinstance(one, Document)] == [[png(0), "zero"], [png(2), "two"]]
    reasons = [one.reason for one in found if isinstance(one, Lost)]
    assert ["no such file" in reasons[0], "no text" in reasons[1], "no name of a file" in reasons[2]] == [True] * 3


def test_aligned_lists_keep_their_order_and_say_what_is_missing(tmp_path, pictures):
    url = "https://x.org/picture?1"
    (pictures / f"{hashlib.sha256(url.encode()).hexdigest()}.png").write_bytes(png(7))
    content = [
        {"images": [None, url, None], "texts": ["a", None, "b"], "metadata": [{"k": 1}]},
        {"images": ["https://x.org/none", None], "texts": [None, "c"]},
        {"images": [url], "texts": ["both"]},
        {"images": [None], "texts": ["a", "b"]},
        {"images": "x", "texts": []},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, content)))
    config = aligned_lists.AlignedLists(rows=str(tmp_path / "x.jsonl"), images=str(pictures), naming="sha256")
    found = read(config)
    assert [parts(one) for one in found if isinstance(one, Document)] == [["a", png(7), "b"], ["c"]]
    lost = [one for one in found if isinstance(one, Lost)]
    assert [one.whole for one in lost] == [False, True, True, True]
    # The multimodal textbook: one array, frames by name, the text read from a frame after it.
    textbook = [{"images": ["0.png", None, "1.png"], "texts": [None, "said", None], "text_ocr_list": ["on screen", None, None]}]
    (tmp_path / "t.json").write_text(json.dumps(textbook))
    config = aligned_lists.AlignedLists(rows=str(tmp_path / "t.json"), images=str(pictures), ocr=True)
    (document,) = read(config)
    assert parts(document) == [png(0), "on screen", "said", png(1)] and document.parts[1].weight == 0.0


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
def test_pictures_are_assigned_as_trying_every_way_would(count, sentences, seed):
    similarity = np.random.default_rng(seed).random((count, sentences))
    placed = mmc4.assign(similarity)
    assert len(set(placed.values())) == len(placed) == min(count, sentences)
    found = sum(similarity[picture, sentence] for picture, sentence in placed.items())
    small, large = sorted((count, sentences))
    matrix = similarity if count <= sentences else similarity.T
    best = max(sum(matrix[i, j] for i, j in enumerate(way)) for way in itertools.permutations(range(large), small))
    assert found == pytest.approx(best)


def test_mmc4_puts_each_picture_before_its_sentence(tmp_path, pictures):
    row = {
        "url": "https://x.org",
        "text_list": ["one", "two", "three"],
        "image_info": [{"image_name": "0.png"}, {"image_name": "1.png"}, {"image_name": "none.png"}],
        "similarity_matrix": [[0.1, 0.2, 0.9], [0.5, 0.1, 0.8], [0.0, 0.3, 0.1]],
    }
    broken = {**row, "similarity_matrix": [[0.1]]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(broken))
    found = read(mmc4.Mmc4(rows=str(tmp_path / "x.jsonl"), images=str(pictures)))
    missing, document, bad = found
    assert parts(document) == [png(1), "one", "two", png(0), "three"]
    assert document.meta["scores"]["similarity"] == {"0.png": 0.9, "1.png": 0.5}
    assert not missing.whole and "no such file" in missing.reason and "similarity_matrix of (1, 1)" in bad.reason
    kept = read(mmc4.Mmc4(rows=str(tmp_path / "x.jsonl"), images=str(pictures), min_similarity=0.6))
    assert [one.rule for one in kept if isinstance(one, Lost)] == ["similarity", "similarity", ""]


def test_conversations_learn_only_what_the_assistant_says(tmp_path, pictures):
    llava = {
        "id": "a", "image": "0.png",
        "conversations": [{"from": "human", "value": "<image>\nwhat?"}, {"from": "gpt", "value": "zero"}],
    }  # fmt: skip
    mantis = {
        "images": [{"path": "1.png"}, "2.png"],
        "conversation": [{"role": "user", "content": "compare with <image>"}, {"role": "assistant", "content": "done"}],
    }
    openai = {
        "images": ["3.png"],
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "and?"}]},
            {"role": "assistant", "content": "yes"},
        ],
    }
    surplus = {"images": [], "conversations": [{"from": "human", "value": "<image>"}]}
    missing = {"image": "none.png", "conversations": [{"from": "human", "value": "<image>"}]}
    (tmp_path / "x.json").write_text(json.dumps([llava, mantis, openai, surplus, missing]))
    found = read(conversations.Conversations(rows=str(tmp_path / "x.json"), images=str(pictures)))
    first, second, third, *lost = found
    assert parts(first) == [png(0), "\nwhat?", "zero"]
    assert [(part.weight, part.role) for part in first.parts] == [(0.0, "user"), (0.0, "user"), (1.0, "assistant")]
    assert parts(second) == [png(1), "\ncompare with ", png(2), "done"]
    assert parts(third) == ["be kind", png(3), "and?", "yes"]
    assert [(part.role, part.turn) for part in third.parts] == [("system", 0), ("user", 1), ("user", 1), ("assistant", 2)]
    assert ["1 places for pictures (<image>), but the row names 0" in lost[0].reason, "no such file" in lost[1].reason] == [
        True,
        True,
    ]


def test_hostile_rows_are_listed_and_the_rest_is_read(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"text": "good"}\n{"text": "deep", "m": ' + b"[" * 100_000 + b'\n{"text": "end"}\n')
    (tmp_path / "y.csv").write_bytes(b"text\n\xff\xfe\n")
    found = read(plain_text.PlainText(path=str(tmp_path)))
    assert [type(one) for one in found] == [Document, Lost, Document, Lost] and "UTF-8" in found[3].reason
    assert found[1].item.endswith("x.jsonl, byte 17")


def test_files_of_one_name_in_two_folders_keep_their_ids_apart(tmp_path):
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.jsonl").write_text('{"text": "row"}')
        (tmp_path / folder / "x.txt").write_text("file")
    found = read(plain_text.PlainText(path=str(tmp_path), name="t"))
    assert [one.id for one in found] == ["t/a/x.jsonl, byte 0", "t/b/x.jsonl, byte 0", "t/a/x.txt", "t/b/x.txt"]


def test_zstandard_reads_as_the_lines_in_it(tmp_path):
    stream = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(stream, "zstd") as file:
        file.write(b"".join(b'{"text": "%d"}\n' % number for number in range(5000)))
    data = stream.getvalue().to_pybytes()
    (tmp_path / "x.jsonl.zst").write_bytes(data)
    found = read(plain_text.PlainText(path=str(tmp_path)))
    assert [parts(one) for one in found] == [[str(number)] for number in range(5000)]
    (tmp_path / "x.jsonl.zst").write_bytes(data[:-20])
    *_, last = read(plain_text.PlainText(path=str(tmp_path)))
    assert isinstance(last, Lost) and "damaged compression" in last.reason


def test_of_a_line_that_is_too_long_nothing_is_taken_for_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_lines, "MAX_LINE", 100)
    lines = b'{"text": "a"}\n"' + b"x" * 200 + b'"\n' + b" " * 101 + b'{"text": "hidden"}\n{"text": "b"}\n'
    (tmp_path / "x.jsonl").write_bytes(lines)
    (tmp_path / "y.jsonl.gz").write_bytes(gzip.compress(lines))
    found = read(plain_text.PlainText(path=str(tmp_path)))
    assert [type(one) for one in found] == [Document, Lost, Lost, Document] * 2
    assert [one.text for document in found if isinstance(document, Document) for one in document.parts] == ["a", "b"] * 2
    assert {one.item.rpartition(" ")[2] for one in found if isinstance(one, Lost)} == {"14", "217"}


def test_parquet_goes_on_after_a_damaged_group_and_its_columns_become_json(tmp_path):
    when = datetime.datetime(2020, 1, 2)
    content = [{"text": f"row {number}", "when": when, "score": float("nan"), "count": 0} for number in range(3000)]
    path = tmp_path / "x.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), path, row_group_size=1000)
    config = plain_text.PlainText(path=str(path), meta=("when", "score", "count"))
    sound = read(config)
    assert len(sound) == 3000 and sound[5].meta == {"when": "2020-01-02 00:00:00", "count": 0}
    Store("memory://parquet-test").write("x.parquet", path.read_bytes())
    remote = read(plain_text.PlainText(path="memory://parquet-test/x.parquet", meta=("when",)))
    assert [one.parts for one in remote] == [one.parts for one in sound]
    data = bytearray(path.read_bytes())
    data[200:1200] = b"\xff" * 1000
    path.write_bytes(data)
    found = read(config)
    assert isinstance(found[0], Lost) and found[0].item.endswith("row group 0, rows 0 to 999") and found[1:] == sound[1000:]


def test_pieces_of_a_turn_that_are_neither_text_nor_picture_lose_the_conversation(tmp_path, pictures):
    turn = {"role": "assistant", "content": "yes"}
    contents = [["text", {"type": "image"}], [{"type": "text", "text": None}], [{"type": "image"}], "no picture?"]
    content = [{"images": ["0.png"], "messages": [{"role": "user", "content": one}, turn]} for one in contents]
    content.append({"images": None, "image": "1.png", "messages": [{"role": "user", "content": "what?"}, turn]})
    (tmp_path / "x.json").write_text(json.dumps(content))
    config = conversations.Conversations(rows=str(tmp_path / "x.json"), images=str(pictures))
    found = read(config)
    assert [type(one) for one in found] == [Lost, Lost, Document, Document, Document]
    assert [part.weight for part in found[4].parts] == [0.0, 0.0, 1.0] and isinstance(found[4].parts[0], Image)


def test_lists_and_rows_of_the_wrong_type_are_listed(tmp_path, pictures):
    content = [{"images": ["0.png", None], "texts": [None, "a"], "text_ocr_list": "ab"}, {"images": [None], "texts": [None]}]
    (tmp_path / "x.json").write_text(json.dumps(content))
    config = aligned_lists.AlignedLists(rows=str(tmp_path / "x.json"), images=str(pictures), ocr=True)
    assert ["must be lists" in one.reason for one in read(config)] == [True, False]
    empty = {"text_list": [""], "image_info": [], "similarity_matrix": []}
    twice = {"text_list": ["a", "b"], "image_info": [{"image_name": "0.png"}] * 2, "similarity_matrix": [[1, 0], [0, 0.5]]}
    (tmp_path / "m.json").write_text(json.dumps([empty, twice]))
    lost, document = read(mmc4.Mmc4(rows=str(tmp_path / "m.json"), images=str(pictures)))
    assert lost.reason == "nothing in it" and document.meta["scores"]["similarity"] == {"0.png": 1.0}
