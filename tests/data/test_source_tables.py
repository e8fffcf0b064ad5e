"""Tables cut into pieces: every cut gives the same rows, each table is many tasks, and what is no table any more is listed."""

import csv
import gzip
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Picture

from mmpt.data.build import BuildConfig, documents, units
from mmpt.data.engine.run import plan_tasks
from mmpt.data.formats import rows, rows_csv
from mmpt.data.lost import Lost
from mmpt.data.sources import aligned_lists, image_text_table, image_text_tars, plain_text
from mmpt.document import Document
from mmpt.errors import ConfigError
from mmpt.media import encode_png

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
"""Texts with quotes, commas and every end of line."""


def png(value: int = 0) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def read(config) -> list:
    return list(config.documents())


def write_csv(path: Path, table: list[list[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(table)


def all_rows(path: Path, media: int = 0) -> list:
    found = [one for unit in rows.row_units(str(path), media) for one in rows.read_rows(str(path), unit.what)]
    assert not any(isinstance(one, Lost) for one in found), found
    return found


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=1, max_size=12), st.integers(1, 80), st.sampled_from(["csv", "json", "jsonl.gz", "parquet"]))
def test_pieces_of_any_size_give_every_row_once_and_in_order(tmp_path, monkeypatch, texts, size, form):
    path = tmp_path / f"x.{form}"
    content = [{"text": text, "n": str(number)} for number, text in enumerate(texts)]
    if form == "csv":
        write_csv(path, [["text", "n"], *([row["text"], row["n"]] for row in content)])
    elif form == "json":
        path.write_text(json.dumps(content, ensure_ascii=False, indent=size % 3 or None), encoding="utf-8")
    elif form == "jsonl.gz":
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in content).encode()))
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), path, row_group_size=5)
    whole = all_rows(path)
    monkeypatch.setattr(rows, "UNIT_BYTES", size)
    monkeypatch.setattr(rows, "LEAST_BYTES", 1)
    pieces = all_rows(path)
    assert [row for _, row in pieces] == content
    assert pieces == whole, "a row's place, and so its id, is the same for every cut"


def test_a_table_of_recordings_or_pictures_is_many_tasks(tmp_path):
    """600 rows of each kind of table: by its own bytes each is one piece of work."""
    table = [{"image": f"{number}.png", "text": f"text {number}"} for number in range(600)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    (tmp_path / "c.json").write_text(json.dumps(table))
    write_csv(tmp_path / "d.csv", [["image", "text"], *(list(row.values()) for row in table)])
    (tmp_path / "e.tsv").write_text("image\ttext\n" + "".join("\t".join(row.values()) + "\n" for row in table))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(table), tmp_path / "f.parquet")
    for path in sorted(tmp_path.iterdir()):
        found = image_text_table.ImageTextTable(table=str(path), images=str(tmp_path)).units()
        tasks = plan_tasks(found, 256 << 20)
        assert 20 <= len(tasks) <= 64, path.name
        assert max(task.size for task in tasks) < 0.1 * sum(task.size for task in tasks), path.name
        assert [row["image"] for _, row in all_rows(path, rows.MEDIA_BYTES)] == [row["image"] for row in table]
        assert len(plan_tasks(plain_text.PlainText(path=str(path)).units(), 256 << 20)) == 1, "no media, little work"


def test_a_long_field_stays_with_its_row(tmp_path):
    """Above 131,072 characters Python's csv stops within the field; its lines are no rows."""
    long = "\n".join(["word " * 4000] * 8) + "\nb.png,this line belongs to the text of a.png\nthe end"
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(png(ord(name)))
    write_csv(tmp_path / "t.csv", [["image", "text"], ["a.png", long], ["b.png", "of b"]])
    config = image_text_table.ImageTextTable(table=str(tmp_path / "t.csv"), images=str(tmp_path))
    first, second = read(config)
    assert (first.parts[0].data, first.parts[1].text) == (png(ord("a")), long)
    assert (second.parts[0].data, second.parts[1].text) == (png(ord("b")), "of b")


@pytest.mark.parametrize("size", [1, 10_000])
def test_after_a_field_above_the_limit_the_rest_of_the_file_is_left_out_and_listed(tmp_path, monkeypatch, size):
    monkeypatch.setattr(rows_csv, "MAX_FIELD", 100)
    monkeypatch.setattr(rows, "UNIT_BYTES", size)
    monkeypatch.setattr(rows, "LEAST_BYTES", 1)
    write_csv(tmp_path / "t.csv", [["text"], ["one"], ["two"], ["long\n" * 50 + "hidden,row"], ["three"]])
    *kept, lost = read(plain_text.PlainText(path=str(tmp_path / "t.csv")))
    assert [one.parts[0].text for one in kept] == ["one", "two"]
    assert lost.item.endswith("t.csv, from line 4 on") and "the rest of the file is left out" in lost.reason


def test_a_quote_that_is_never_closed_makes_no_row_of_what_follows(tmp_path):
    (tmp_path / "t.csv").write_text('text,n\none,1\n"two,2\nthree,3\n')
    kept, lost = read(plain_text.PlainText(path=str(tmp_path / "t.csv")))
    assert kept.parts[0].text == "one" and lost.item.endswith("from line 3 on") and "never closed" in lost.reason


def test_a_byte_order_mark_and_a_quoted_header(tmp_path):
    (tmp_path / "t.csv").write_bytes('\ufeff"text","n"\r\n"é",1\r\n'.encode())
    (document,) = read(plain_text.PlainText(path=str(tmp_path / "t.csv"), meta=("n",)))
    assert document.parts[0].text == "é" and document.meta == {"n": "1"}


def test_a_damaged_array_is_read_up_to_the_damage(tmp_path):
    path = tmp_path / "x.json"
    for text, kept, item in [
        ('[{"text": "a"}, {"text": "b"}, {"text": ]', ["a", "b"], 2),
        ('[{"text": "a"}, {"text": "b"}', ["a", "b"], 2),
        ('[{"text": "a"} {"text": "b"}]', ["a"], 1),
        ('[{"text": "a"}]\n[{"text": "b"}]', ["a"], 1),
    ]:
        path.write_text(text)
        *found, lost = read(plain_text.PlainText(path=str(path)))
        assert [one.parts[0].text for one in found] == kept and lost.item.endswith(f"from item {item} on"), text
    path.write_text('{\n "text": "one object\\nover lines"\n}\n')
    (document,) = read(plain_text.PlainText(path=str(path)))
    assert document.id.endswith("item 0") and document.parts[0].text == "one object\nover lines"
    path.write_bytes(json.dumps([{"text": "é"}], ensure_ascii=False).encode("utf-16"))
    assert read(plain_text.PlainText(path=str(path)))[0].parts[0].text == "é"


def test_files_of_nothing_are_a_mistake_or_pass(tmp_path):
    for name in ("a.jsonl", "b.csv", "c.json"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ConfigError, match="no rows in it"):
        plain_text.PlainText(path=str(tmp_path)).units()
    (tmp_path / "d.jsonl").write_text('{"text": "row"}')
    (tmp_path / "e.csv").write_text("text\n")
    assert [one.parts[0].text for one in read(plain_text.PlainText(path=str(tmp_path)))] == ["row"]


def build_all(**source) -> list:
    return list(documents(BuildConfig.model_validate({"sources": [source]})))


def test_what_json_cannot_hold_costs_only_that_value(tmp_path):
    tars = tmp_path / "tars"
    tars.mkdir()
    captions = [
        '{"caption": ["a dog", "a cat"]}',
        '{"caption": "ok", "width": NaN}',
        '{"caption": "ok", "exif": {"f": NaN, "g": [1e999]}}',
        '{"caption": null}',
        '{"caption": "half \\ud83d emoji"}',
    ]
    with tarfile.open(tars / "0.tar", "w") as tar:
        for number, text in enumerate(captions):
            for suffix, data in (("png", png()), ("json", text.encode())):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    found = build_all(kind="image_text_tars", folder=str(tars))
    kept = {one.id[-1]: (one.parts[1].text, one.meta) for one in found if isinstance(one, Document)}
    assert kept == {
        "0": ("a dog", {"caption": ["a dog", "a cat"]}),
        "1": ("ok", {}),
        "2": ("ok", {"exif": {"f": None, "g": [None]}}),
        "4": ("half \ufffd emoji", {}),
    }
    lost = {one.document[-1]: one for one in found if isinstance(one, Lost)}
    assert {key: (one.whole, one.rule) for key, one in lost.items()} == {
        "2": (False, "unstorable value"), "3": (True, ""), "4": (False, "unstorable value"),
    }  # fmt: skip
    assert "meta 'exif'" in lost["2"].reason and "part 0, part 1" in lost["4"].reason


def test_a_reference_that_no_file_system_knows_costs_that_picture(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    row = '{"images": ["a.png", null, "b\\ud83d.png", "[x"], "texts": [null, "one", null, null]}\n'
    (tmp_path / "rows.jsonl").write_text(row)
    for naming in ("path", "basename", "sha256"):
        found = build_all(kind="aligned_lists", rows=str(tmp_path / "rows.jsonl"), images=str(tmp_path), naming=naming)
        *lost, document = found
        assert [one.part for one in lost] == ["image"] * (2 if naming != "sha256" else 3)
        assert document.parts[-1].text == "one"


def test_pictures_of_other_formats_in_tars_are_decoded_or_listed(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for suffix, form in (("gif", "GIF"), ("bmp", "BMP"), ("tif", "TIFF"), ("JPG", "JPEG"), ("heic", None)):
            buffer = io.BytesIO()
            if form:
                Picture.new("RGB", (6, 4), "red").save(buffer, form)
            for name, data in ((f"{suffix}.{suffix}", buffer.getvalue() or b"no picture"), (f"{suffix}.txt", b"red")):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    found = read(image_text_tars.ImageTextTars(folder=str(tmp_path)))
    kept = [(one.id.rpartition("/")[2], one.parts[0].width) for one in found if isinstance(one, Document)]
    assert kept == [("gif", 6), ("bmp", 6), ("tif", 6), ("JPG", 6)]
    assert "no picture that can be decoded" in found[4].reason


def test_lists_under_other_names_and_what_was_measured_go_along(tmp_path):
    (tmp_path / "a.png").write_bytes(png())
    measured = {"toxic_prob": 0.01, "fluency_prob": 0.9}
    content = [
        {"URL": "http://x", "text_list": ["A proof.", None], "image_list": [None, "a.png"], "metadata": "{}"},
        {"images": ["a.png"], "texts": [None], "general_metadata": measured},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    first, second = read(aligned_lists.AlignedLists(rows=str(tmp_path / "rows.jsonl"), images=str(tmp_path)))
    assert (
        first.parts[0].text == "A proof." and first.parts[1].data == png() and first.meta == {"URL": "http://x", "metadata": "{}"}
    )
    assert second.meta == {"general_metadata": measured}


def test_units_of_a_specification_follow_its_tables(tmp_path):
    write_csv(tmp_path / "t.csv", [["image", "text"], *([f"{number}.png", "x"] for number in range(300))])
    config = BuildConfig.model_validate(
        {"sources": [{"kind": "image_text_table", "table": str(tmp_path / "t.csv"), "images": str(tmp_path)}]}
    )
    found = units(config)
    assert len(found) > 20 and all(unit.what[0] == 0 for unit in found)
