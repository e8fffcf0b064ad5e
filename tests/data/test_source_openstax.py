"""A textbook in CNXML gives each module in the order of the book: words once, figures in place, what is missing listed."""

from pathlib import Path

import numpy as np
import pytest
from lxml import etree
from PIL import Image as Picture

from mmpt.data.formats.mathml import tex
from mmpt.data.lost import Lost
from mmpt.data.sources.openstax import Openstax
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png

BOOKS = Path(__file__).resolve().parents[3] / "shared" / "data" / "textbooks"
CNXML = 'xmlns="http://cnx.rice.edu/cnxml" xmlns:m="http://www.w3.org/1998/Math/MathML" xmlns:md="http://cnx.rice.edu/mdml"'
COLLECTION = """<?xml version="1.0"?>
<col:collection xmlns="http://cnx.rice.edu/collxml" xmlns:md="http://cnx.rice.edu/mdml" xmlns:col="http://cnx.rice.edu/collxml"
 xml:lang="en" authors="Ann Lee ,Bo Ray"><metadata><md:title>Stars</md:title><md:language>en-US</md:language>
<md:license url="http://creativecommons.org/licenses/by/4.0/">Creative Commons Attribution License</md:license></metadata>
<col:content><col:module document="m2"/><col:subcollection><md:title>Near</md:title><col:content><col:subcollection>
<md:title>Very near</md:title><col:content><col:module document="m1"/><col:module document="m9"/></col:content>
</col:subcollection></col:content></col:subcollection></col:content></col:collection>"""
MODULE = f"""<document {CNXML}><title>The <emphasis>Sun</emphasis></title>
<metadata><md:title>The Sun</md:title><md:abstract>You will <list><item>see light</item></list></md:abstract></metadata>
<content><!-- not said --><para id="p">Hot, as <link target-id="f2"/> and <link document="m2" target-id="t"/> show;
<term>gas</term><footnote>Mostly H<sub>2</sub>.</footnote> at 10<sup>6</sup> K.<newline/>See
<link url="http://x.org">a page</link>, <link document="m2"/>.</para><figure id="f1">
<media alt="A  disc"><image mime-type="image/png" src="../../media/a.png"/></media>
<caption>A disc. (credit: NASA)</caption></figure>
<section><title>Inside</title><note><label>Look</label><title>Here</title><para>Layers:</para></note>
<list list-type="enumerated" number-style="upper-alpha"><item>core</item><item>shell<list><item>thin</item></list></item></list>
<figure id="f2"><title>Two Views</title><figure id="s1"><media alt="left"><image src="../../media/b.png"/></media></figure>
<figure id="s2"><media alt="right"><image src="../../media/none.png"/></media></figure><caption>Both</caption></figure>
<exercise><problem><para>Why?</para><para>How?</para></problem><solution><para>So.</para></solution></exercise>
<quote>Said<para>twice</para></quote>
<note><media alt="x"><iframe src="https://play.example"/></media></note></section></content>
<glossary><definition><term>core</term><meaning>the middle</meaning></definition></glossary></document>"""
OTHER = f"""<document {CNXML}><title>Tools</title><content><table id="t"><title>Sizes</title><tgroup cols="2"><thead><row>
<entry>a</entry><entry><para>b</para> <para>c</para></entry></row></thead><tbody><row><entry/><entry>1<newline/>2</entry></row>
</tbody></tgroup></table><para>One <media alt="in line"><image src="../../media/a.png"/></media> text, <m:math>
<m:mfrac><m:mi>a</m:mi><m:mn>2</m:mn></m:mfrac></m:math>.</para>
<para><link class="os-embed" url="#ost/api/ex/1"/></para></content></document>"""


def png(value: int) -> bytes:
    return encode_png(Picture.fromarray(np.full((4, 5, 3), value, dtype=np.uint8)))


@pytest.fixture
def book(tmp_path) -> Path:
    for name, text in {
        "collections/stars.collection.xml": COLLECTION,
        "modules/m1/index.cnxml": MODULE,
        "modules/m2/index.cnxml": OTHER,
        "modules/m0/index.cnxml": f"<document {CNXML}><title>Loose</title><content/></document>",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.png").write_bytes(png(1))
    (tmp_path / "media" / "b.png").write_bytes(png(2))
    return tmp_path


def read(folder: Path, **changes) -> tuple[dict[str, Document], list[Lost]]:
    found = list(Openstax(folder=str(folder), name="book", **changes).documents())
    return {one.id: one for one in found if isinstance(one, Document)}, [one for one in found if isinstance(one, Lost)]


def shown(document: Document) -> list:
    return [(part.alt, part.data) if isinstance(part, Image) else part.text for part in document.parts]


def test_a_module_in_its_order(book):
    documents, _ = read(book)
    assert shown(documents["book/modules/m1"]) == [
        "# The Sun\n\nYou will\n\n- see light\n\n"
        "Hot, as Figure 2 and Table 1 (Tools) show; gas [Mostly H_2.] at 10^6 K.\nSee a page, Tools.",
        ("A disc", png(1)),
        "Figure 1. A disc. (credit: NASA)\n\n## Inside\n\nLook\n\nHere\n\nLayers:\n\n"
        "A. core\nB. shell\n   - thin",
        ("left", png(2)),
        "Figure 2. Two Views. Both\n\n1. Why?\n\n   How?\n\n   So.\n\n> Said\n>\n> twice\n\ncore: the middle",
    ]  # fmt: skip
    assert shown(documents["book/modules/m2"]) == [
        "# Tools\n\nTable 1. Sizes\n\na\tb c\n\t1 2\n\nOne",
        ("in line", png(1)),
        r"text, $\frac{a}{2}$.",
    ]


def test_a_caption_may_stand_before_its_picture(book):
    documents, _ = read(book, captions="before")
    parts = shown(documents["book/modules/m1"])
    assert parts[0].endswith("Tools.\n\nFigure 1. A disc. (credit: NASA)") and parts[1] == ("A disc", png(1))
    assert parts[2].startswith("## Inside") and parts[2].endswith("Figure 2. Two Views. Both") and parts[3][0] == "left"


def test_modules_come_as_the_collection_has_them_with_what_the_book_says_of_itself(book):
    documents, _ = read(book)
    assert list(documents) == ["book/modules/m2", "book/modules/m1", "book/modules/m0"]
    about = {"authors": "Ann Lee, Bo Ray", "language": "en", "license": "CC-BY-4.0", "book": "Stars"}
    assert documents["book/modules/m1"].meta == about | {
        "path": "modules/m1/index.cnxml",
        "title": "The Sun",
        "chapters": ["Near", "Very near"],
    }
    assert documents["book/modules/m2"].meta == about | {"path": "modules/m2/index.cnxml", "title": "Tools"}
    assert documents["book/modules/m0"].meta == {"path": "modules/m0/index.cnxml", "title": "Loose"}
    assert list(read(book, modules="m[12]")[0]) == ["book/modules/m2", "book/modules/m1"]
    with pytest.raises(ConfigError, match="no module's id"):
        read(book, modules="x")


def test_what_cannot_be_had_is_listed(book):
    _, lost = read(book)
    assert {(one.item.removeprefix(f"{book}/"), one.reason.removeprefix(f"{book}/"), one.part) for one in lost} == {
        ("modules/m1/index.cnxml, line 11: ../../media/none.png", "media/none.png: no such file", "image"),
        ("modules/m1/index.cnxml, line 14: https://play.example", "<iframe>: what lies elsewhere is not fetched", ""),
        ("modules/m2/index.cnxml, line 5: #ost/api/ex/1", "<link>: what lies elsewhere is not fetched", ""),
        ("modules/m9/index.cnxml", "no such file", ""),
    }
    assert sum(one.bad for one in lost) == 1 and sum(one.bad_part for one in lost) == 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (MODULE.replace("</para>", "", 1), "no well-formed XML"),
        ("", "no well-formed XML"),
        ("<html/>", "<html>, expected <document>"),
        ('<!DOCTYPE d [<!ENTITY a "x">]><document><content>&a;</content></document>', "declares entities"),
        ('<!DOCTYPE d [<!ENTITY a SYSTEM "a.png">]><document><content>&a;</content></document>', "declares entities"),
        ('<!DOCTYPE d [<!ENTITY % a SYSTEM "a.png">]><document><content>b</content></document>', "declares entities"),
        ("<document><content>" + "<para>" * 240 + "deep" + "</para>" * 5000 + "</content></document>", "no well-formed"),
    ],
)
def test_files_that_mean_harm_or_nothing_are_refused_with_a_reason(book, text, reason):
    (book / "modules/m1/index.cnxml").write_text(text)
    documents, lost = read(book)
    assert "book/modules/m1" not in documents and "book/modules/m2" in documents
    assert [one.reason for one in lost if one.document == "book/modules/m1" and reason in one.reason]


def test_entities_in_utf_16_are_seen_too(book):
    text = (
        '<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE d [<!ENTITY % a SYSTEM "a">]><document><content>b</content></document>'
    )
    (book / "modules/m1/index.cnxml").write_bytes(text.encode("utf-16"))
    assert "book/modules/m1" not in read(book)[0]


def test_a_collection_that_cannot_be_read_is_listed_and_its_modules_are_read(book):
    (book / "collections/stars.collection.xml").write_text("<collection>")
    documents, lost = read(book)
    assert sorted(documents) == ["book/modules/m0", "book/modules/m1", "book/modules/m2"]
    assert any("stars.collection.xml" in one.item and "no well-formed" in one.reason for one in lost)


def test_an_archive_of_a_book_has_its_modules_beside_the_collection(tmp_path):
    collection = COLLECTION.replace('<col:module document="m9"/>', "")
    (tmp_path / "collection.xml").write_text(collection)
    for name in ("m1", "m2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.cnxml").write_text(f"<document {CNXML}><title>{name}</title><content>x</content></document>")
    documents, lost = read(tmp_path)
    assert [one.meta.get("book") for one in documents.values()] == ["Stars", "Stars"] and not lost


@pytest.mark.parametrize(
    ("mathml", "expected"),
    [
        ("<msup><mn>10</mn><mrow><mo>−</mo><mn>3</mn></mrow></msup>", "$10^{− 3}$"),
        ("<msub><mi>v</mi><mtext>max</mtext></msub><mo>=</mo><mi>cos</mi>", r"$v_{\text{max}} = \text{cos}$"),
        ("<msqrt><mi>x</mi><mo>+</mo><mn>1</mn></msqrt>", r"$\sqrt{x + 1}$"),
        ("<mroot><mi>x</mi><mn>3</mn></mroot>", r"$\sqrt[3]{x}$"),
        ("<mover><mi>F</mi><mo>→</mo></mover>", r"$\vec{F}$"),
        ("<msubsup><mi>x</mi><mn>1</mn><mn>2</mn></msubsup>", "$x_1^2$"),
        ("<mmultiscripts><mi>U</mi><mprescripts/><mn>92</mn><mn>235</mn></mmultiscripts>", "${}_{92}^{235} U$"),
        ("<mfenced open='{' close='}'><mi>a</mi><mi>b</mi></mfenced>", r"$\{ a , b \}$"),
        ("<mtable><mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mtr></mtable>", r"$\begin{matrix} a & b \end{matrix}$"),
        ("<mn>5</mn><mo>%</mo>", r"$5 \%$"),
        ("<mfrac><mi>a</mi></mfrac>", "$a$"),
        ("<mspace/>", ""),
    ],
)
def test_formulas_are_tex(mathml, expected):
    assert tex(etree.fromstring(f"<math>{mathml}</math>")) == expected


@pytest.mark.skipif(not BOOKS.is_dir(), reason="the textbooks are not here")
def test_a_real_module_has_its_figures_and_captions():
    documents, lost = read(BOOKS, modules="m50086|m59770")
    assert not lost and {document.meta["book"] for document in documents.values()} == {"U.S. History", "Astronomy 2e"}
    for document in documents.values():
        root = etree.parse(str(BOOKS / document.meta["path"])).getroot()
        alts = [" ".join(media.get("alt").split()) for media in root.iter("{*}media")]
        assert alts and [part.alt for part in document.parts if isinstance(part, Image)] == alts
        captions = [" ".join("".join(caption.itertext()).split())[:60] for caption in root.iter("{*}caption")]
        pairs = zip(document.parts, document.parts[1:], strict=False)
        after = [part.text for picture, part in pairs if isinstance(picture, Image) and isinstance(part, Text)]
        assert all(caption in text for caption, text in zip(captions, after, strict=True))
