"""Notebooks as nbformat writes them: every cell in order, its pictures in place."""

import base64
import json
from pathlib import Path

import nbformat
import numpy as np
from nbformat import v3, v4
from PIL import Image as Picture

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.lost import Lost
from mmpt.document import Document, Text
from mmpt.media import encode_png


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def coded(value: int) -> str:
    return base64.encodebytes(png(value)).decode()  # with line ends, as Jupyter writes it


def read(folder: Path, **settings) -> list:
    return list(
        documents(parse_config({"sources": [{"kind": "notebooks", "folder": str(folder), **settings}]}, BuildConfig, "t"))
    )


def shape(document: Document) -> list:
    return [part.text if isinstance(part, Text) else part.data for part in document.parts]


def notebook(*cells) -> nbformat.NotebookNode:
    about = {"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}, "language_info": {"name": "python"}}
    return v4.new_notebook(cells=list(cells), metadata=about)


def test_cells_outputs_and_attachments_in_order(tmp_path):
    (tmp_path / "img").mkdir()
    (tmp_path / "img" / "a b.png").write_bytes(png(1))
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "c.png").write_bytes(png(3))
    attached = v4.new_markdown_cell("Attached: ![pasted](attachment:image.png) and ![gone](attachment:no.png)")
    attached.attachments = {"image.png": {"image/png": coded(2)}}
    plot = v4.new_code_cell(
        "plot()",
        outputs=[
            v4.new_output("stream", text="\x1b[31mred\x1b[0m\n```\n"),
            v4.new_output("display_data", {"text/plain": "<Figure>", "image/png": coded(4)}),
            v4.new_output("execute_result", {"text/plain": "42", "text/html": "<b>42</b>"}),
            v4.new_output("display_data", {"image/svg+xml": "<svg/>", "text/plain": "<drawing>"}),
            v4.new_output("display_data", {"application/vnd.plotly.v1+json": {}}),
            v4.new_output("error", ename="KeyError", evalue="'x'", traceback=["long"]),
        ],
    )
    cells = (v4.new_markdown_cell("# Title\n\n![alt](<img/a b.png>) $x$ ![root](/c.png)"), attached, plot, v4.new_raw_cell("raw"))
    nbformat.write(notebook(*cells), tmp_path / "a.ipynb")
    *lost, found = read(tmp_path, public=["static"], license="x")
    assert shape(found) == [
        "# Title",
        png(1),
        "$x$",
        png(3),
        "Attached:",
        png(2),
        "and\n\n```python\nplot()\n```\n\n````\nred\n```\n````",
        png(4),
        "```\n42\n```\n\n```\nKeyError: 'x'\n```",
    ]
    assert found.parts[1].alt == "alt" and found.meta["programming_language"] == "python"
    assert [one.reason for one in lost] == [
        "no such attachment",
        "drawn in an output (svg)",
        "neither a picture nor text",
        "neither Markdown nor code",
    ]
    *_, without = read(tmp_path, public=["static"], outputs=False)
    assert shape(without)[-1] == "and\n\n```python\nplot()\n```" and png(4) not in shape(without)


def test_old_versions_are_read(tmp_path):
    out = v3.new_output("display_data", output_png=coded(5), output_text="x")
    cells = [v3.new_heading_cell("Old", level=2), v3.new_code_cell("1 + 1", outputs=[out], language="python")]
    old = v3.new_notebook(worksheets=[v3.new_worksheet(cells=cells)])
    (tmp_path / "old.ipynb").write_text(json.dumps(old))
    (found,) = read(tmp_path)
    assert shape(found) == ["## Old\n\n```\n1 + 1\n```", png(5)]


def test_what_is_no_notebook_is_listed(tmp_path):
    nbformat.write(
        notebook(v4.new_markdown_cell("![x](../../etc/passwd.png) ![y](http://x.org/a.png) text")), tmp_path / "0.ipynb"
    )
    for number, text in enumerate(
        ["", "{}", "[]", '{"cells": 1, "nbformat": 4}', '{"nbformat": 9}', "\udc80", '{"cells": [{}]}'], 1
    ):
        (tmp_path / f"{number}.ipynb").write_bytes(text.encode("utf-8", "surrogateescape"))
    nbformat.write(notebook(), tmp_path / "9.ipynb")
    out, elsewhere, found, *lost = read(tmp_path)
    assert out.reason == "leads out of the folder" and "not fetched" in elsewhere.reason and shape(found) == ["text"]
    assert len(lost) == 8 and all(isinstance(one, Lost) and one.bad for one in lost) and lost[-1].reason == "nothing in it"
