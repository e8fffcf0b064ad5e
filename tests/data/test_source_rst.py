"""reStructuredText as docutils and Sphinx have it: what a reader sees, in order, and nothing of other files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.lost import Lost
from mmpt.data.sources.rst import Rst
from mmpt.document import Document, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png

PAGE = """\
:orphan:

.. _top:

=====
Title
=====

See :doc:`Other page <other>`, :ref:`top`, :class:`~a.b.Thing`, :guilabel:`&File` and ``code``.

.. figure:: img/a.png
   :alt: a figure
   :width: nonsense
   :figclass: x

   Its caption

.. note::
   :class: tip

   A note with |logo| inside.

   .. image:: /static/b.png

.. |logo| image:: img/c%20d.png

.. code-block:: python
   :emphasize-lines: 1

   x = 1

.. tabs::

   .. tab:: Linux

      Type *this*.

.. only:: html

   Seen as a page.

.. toctree::

   other

.. versionadded:: 1.2 With words

Formula :math:`x^2`, last.
"""


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


def read(folder: Path, text: str = "", **settings) -> list:
    if text:
        (folder / "a.rst").write_text(text, encoding="utf-8")
    return list(documents(parse_config({"sources": [{"kind": "rst", "folder": str(folder), **settings}]}, BuildConfig, "t")))


def shape(document: Document) -> list:
    return [part.text if isinstance(part, Text) else part.data for part in document.parts]


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "img").mkdir()
    (tmp_path / "static").mkdir()
    for value, name in enumerate(("img/a.png", "static/b.png", "img/c d.png")):
        (tmp_path / name).write_bytes(png(value))
    return tmp_path


def test_what_a_reader_sees_in_order(folder):
    found = read(folder, PAGE)
    (document,) = [one for one in found if isinstance(one, Document)]
    assert found == [document], [one for one in found if isinstance(one, Lost)]
    texts = shape(document)
    assert texts[0] == "Title\n\nSee Other page, top, Thing, &File and code."
    assert texts[1] == png(0) and document.parts[1].alt == "a figure"
    assert texts[2] == "Its caption\n\nNote\n\nA note with"
    assert texts[3:6] == [png(2), "inside.", png(1)]
    assert texts[6].split("\n\n") == [
        "x = 1",
        "Linux",
        "Type this.",
        "Seen as a page.",
        "1.2 With words",
        "Formula $x^2$, last.",
    ]
    assert document.meta == {"path": "a.rst", "title": "Title"}


def test_nothing_of_another_file_is_read(folder):
    (folder / "secret.txt").write_text("the secret")
    (folder.parent / "secret.png").write_bytes(png(9))
    text = f"""\
.. include:: secret.txt

.. literalinclude:: secret.txt

.. raw:: html
   :file: secret.txt

.. csv-table::
   :file: {folder}/secret.txt

.. image:: {folder}/img/a.png
   :loading: embed

.. image:: ../secret.png

.. image:: file://{folder}/img/a.png

.. figure:: img/a.png
   :scale: 50 %
   :figwidth: image

.. autoclass:: os.path

end
"""
    *lost, found = read(folder, text)
    assert shape(found) == [png(0), "end"]
    told = " ".join(one.reason for one in lost)
    assert told.count("is not read: ") == 4 and "csv-table" in told and "leads out of the folder" in told
    assert len(lost) == 8 and all(isinstance(one, Lost) and not one.whole for one in lost)


def test_the_lines_of_what_is_lost(folder):
    *lost, found = read(folder, "text\n\n.. image:: img/no.png\n\n.. table::\n\n   no table\n\n.. plot::\n\n   x()\n\nend\n")
    assert shape(found) == ["text", "end"]
    lines = {one.item.rpartition("line ")[2] for one in lost if one.rule == "directive"}
    assert lines == {"5", "9"} and any("img/no.png" in one.item and one.bad_part for one in lost)


def test_substitutions_that_hold_each_other_do_not_grow(folder):
    lines = [f".. |a{n}| replace:: " + f"|a{n + 1}| " * 10 for n in range(12)]
    text = "|a0|\n\nend\n\n" + "\n".join([*lines, ".. |a12| replace:: " + "x" * 50, ""])
    found = read(folder, text)
    assert sum(len(one) for document in found if isinstance(document, Document) for one in shape(document)) < 1_000_000


def test_roles_of_one_text_are_not_those_of_the_next(folder):
    first = read(folder, ".. role:: red(code)\n\n:red:`a` :blue:`b <c>`\n")
    second = read(folder, ":red:`a <b>`\n")
    assert shape(first[-1]) == ["a b"] and shape(second[-1]) == ["a"]


def test_what_is_no_text_is_listed(folder):
    (folder / "b.rst").write_bytes(b"\xff\xfe\xff")
    (folder / "c.rst").write_text("")
    (folder / "d.rst").write_text("".join(f"{' ' * n}- a\n\n" for n in range(2000)))
    found = read(folder, "fine\n")
    assert shape(found[0]) == ["fine"] and found[1].bad and found[2].rule == "empty page"
    assert len(found) == 4
    with pytest.raises(ConfigError, match=r"no \.rst, \.rest in it"):
        Rst(folder=str(folder / "img")).units()
