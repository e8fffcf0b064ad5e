"""An answer as a page: the parts in their order, pictures where they stand, and what a model writes is text."""

import sys
from pathlib import Path

import pytest
from selectolax.lexbor import LexborHTMLParser

from mmpt.cli import main
from mmpt.document import Image, Speech, Text
from mmpt.inference.document_page import document_page

PICTURE = Image(b"png bytes", "png", 2, 2, "an <alt>")
SOUND = Speech(b"wav bytes", "wav", 16_000, 1.0)
ANSWER = [
    (Text("A star.\n"), None),
    (PICTURE, Path("out/a b.png")),
    (Text("<script>1</script> & so"), None),
    (SOUND, Path("out/s.wav")),
]


def test_html_has_all_in_one_file_in_order():
    page = LexborHTMLParser(document_page(Path("star.html"), [(Text("# Stars"), None)], ANSWER))
    found = [(node.tag, node.text()) for node in page.css("div.text, figure img, figure audio")]
    assert found == [
        ("div", "# Stars"),
        ("div", "A star."),
        ("img", ""),
        ("div", "<script>1</script> & so"),
        ("audio", ""),
    ]
    assert "unlearned" in page.css_first("div.text").attributes["class"]
    assert page.css_first("img").attributes["src"] == "data:image/png;base64,cG5nIGJ5dGVz" and not page.css("script")


def test_markdown_refers_to_the_files_beside_it():
    text = document_page(Path("out/star.md"), [(Text("# Stars\n\n"), None)], ANSWER)
    assert text == ("# Stars\n\nA star.\n\n\n![a b.png](a%20b.png)\n\n&lt;script>1&lt;/script> &amp; so\n\n[s.wav](s.wav)\n")
    assert "![a b.png](out/a%20b.png)" in document_page(Path("star.md"), [], ANSWER)


@pytest.mark.parametrize(("name", "reason"), [("page.pdf", "ends with .html or .md"), ("there.md", "not overwritten")])
def test_a_page_that_cannot_be_written_is_told_before_anything_is_loaded(name, reason, tmp_path, monkeypatch, capsys):
    (tmp_path / "there.md").write_text("mine")
    monkeypatch.setattr(sys, "argv", ["mmpt", "generate", str(tmp_path), "--text", "a", "--page", str(tmp_path / name)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err
    assert (tmp_path / "there.md").read_text() == "mine"
