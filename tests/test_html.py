"""The one HTML kit: what is text is escaped wherever it stands, what is HTML stands as it is, and nothing is loaded."""

import base64

import pytest

from mmpt import html
from mmpt.document import Image, Speech, Text

EVIL = '"><script>alert(1)</script>'
ESCAPED = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"


@pytest.mark.parametrize(
    "piece",
    [
        html.heading(EVIL, EVIL),
        html.quiet(EVIL),
        html.card(EVIL),
        html.details(EVIL, EVIL),
        html.bullets([EVIL]),
        html.table([[EVIL]], [EVIL]),
        html.tiles([(EVIL, EVIL)]),
        html.figure_tiles({"a": 1.0}, {"a": EVIL}),
        html.image(b"", "png", EVIL),
        html.image(b"", EVIL),
        html.part(Text(EVIL)),
        html.part(Image(b"", EVIL, 1, 1, EVIL)),
        html.tag("a", EVIL, href=EVIL),
        html.join([EVIL], EVIL),
        html.Html(html.page(EVIL, [EVIL], EVIL)),
    ],
)
def test_text_is_escaped_wherever_it_stands(piece):
    assert "<script>" not in piece and isinstance(piece, html.Html)


def test_html_is_not_escaped_again():
    bold = html.tag("b", EVIL)
    assert bold == f"<b>{ESCAPED}</b>" and html.escape(bold) is bold
    assert html.table([[bold, 12345, 0.5, "x"]]).count(bold) == 1
    assert html.join(["a", bold, 3], ", ") == f"a, {bold}, 3"


def test_numbers_stand_to_the_right_and_names_do_not():
    table = html.table([["words", 12345], ["right", True]], ["what", "count"])
    assert '<td class="number">12,345</td>' in table and "<td>True</td>" in table and "<th>count</th>" in table
    assert html.figure_tiles({"seconds": 12345.6, "loss": 0.12345}, {"loss": "nats", "none": "-", "seconds": "s"}) == html.tiles(
        [("0.123", "nats"), ("12,346", "s")]
    )


def test_media_lie_in_the_page_in_their_own_type():
    shown = html.parts([Image(b"abc", "jpg", 1, 1), Speech(b"d", "mp3", 16_000, 1.0), Text("<b>")])
    coded = base64.b64encode(b"abc").decode()
    assert f'src="data:image/jpeg;base64,{coded}"' in shown and 'src="data:audio/mpeg;base64,' in shown and "&lt;b&gt;" in shown
    assert html.parts([]) == "—"
    page = html.page("a", [shown])
    assert "default-src 'none'" in page and "http" not in page.replace("http-equiv", "")
