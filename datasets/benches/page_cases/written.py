# ruff: noqa: E501 (pages stand as they are written)
"""Pages as people and programs write them, with what is right of each: pictures in order, words, and what must be listed."""

from dataclasses import dataclass

FILES = {
    "a.png": (255, 0, 0),
    "b.png": (0, 255, 0),
    "c d.png": (0, 0, 255),
    "img/e.png": (9, 9, 90),
    "page_files/f.png": (90, 9, 9),
    "deep/er/g.png": (9, 90, 9),
}
GIF = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@dataclass(frozen=True)
class Case:
    """A page of the `kind`; the names of the pictures that it `shows`, what it `says`, and the references that it `lists`."""

    kind: str
    name: str
    text: str
    shows: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()


def _md(name: str, text: str, *shows: str, says: tuple[str, ...] = (), lists: tuple[str, ...] = ()) -> Case:
    return Case("markdown", name, text, shows, says, lists)


def _html(name: str, text: str, *shows: str, says: tuple[str, ...] = (), lists: tuple[str, ...] = ()) -> Case:
    return Case("html", name, text, shows, says, lists)


MARKDOWN = [
    _md("image in an indented table", '<table>\n  <tr>\n    <td><img src="a.png"></td>\n      <td>\n        <img src="b.png">\n</td>'
        "</tr>\n</table>\n\nafter\n", "a.png", "b.png", says=("after",)),
    _md("image in a centred paragraph", '# T\n\n<p align="center">\n        <img src="a.png" width="300">\n</p>\n', "a.png"),
    _md("image in nested elements", '<div>\n  <div>\n    <p>deep text</p>\n    <img src="a.png">\n  </div>\n</div>\n\nend\n',
        "a.png", says=("deep text", "end")),
    _md("code in HTML", '<div>\n\n    <img src="a.png">\n\n</div>\n', says=('<img src="a.png">',)),
    _md("Markdown in HTML", '<div style="x">\nSome *text*.\n![x](a.png){:width="3"}\n</div>\n\n<table><tr><td>![y](b.png)</td></tr></table>\n',
        "a.png", "b.png", says=("Some *text*.",)),
    _md("greater-than in an attribute", '<img alt="a > b" src="a.png">\n\n<img\n  src="b.png"\n  alt="x"\n/>\n', "a.png", "b.png"),
    _md("spaces in an address", "![x](c d.png)\n\n![y](<c d.png>)\n\n![z](c%20d.png 'title')\n", *["c d.png"] * 3),
    _md("size after an address", "![z](a.png =200x100) ![z](b.png =50%x)\n", "a.png", "b.png"),
    _md("Obsidian", "before ![[a.png]] mid ![[g.png|300]] ![[note]] end\n", "a.png", "deep/er/g.png", says=("![[note]] end",)),
    _md("attribute lists", '![x](a.png){ width="300" }\n\n![y](b.png){: .center }\n{: .note}\n', "a.png", "b.png"),
    _md("MkDocs blocks", '!!! note "Title"\n\n    Text in it.\n\n    ![x](a.png)\n\n    ??? tip\n\n        ![z](c%20d.png)\n\n'
        '=== "Tab"\n\n    ![y](b.png)\n\n        ![code](a.png)\n\nafter\n', "a.png", "c d.png", "b.png",
        says=('!!! note "Title"', "Text in it.", "![code](a.png)", "after")),
    _md("shortcodes", '{{< figure src="a.png" title="x" >}}\n\n{% include figure.html src="/b.png" %}\n\n{{< ref "x" >}}\n', "a.png", "b.png",
        says=('{{< ref "x" >}}',)),
    _md("Liquid in an address", '![x]({{ site.baseurl }}/a.png)\n\n![y]({{ "/b.png" | relative_url }})\n', "a.png", "b.png"),
    _md("MDX", "import a from './a.png'\n\n<Image src={a} alt=\"x\" />\n\n<img src={require('./b.png').default} />\n\n<Zoom>\n\n"
        "![x](c%20d.png)\n\n</Zoom>\n\n<Image src={made()} style={{width: 3}} />\n", "a.png", "b.png", "c d.png", lists=("{made()}",)),
    _md("lesser-than in text", "x<a and y>b, List<a> and Map<b, c>, $a < b$, the <table> tag and the <title> tag, <name> too\n\nend ![](a.png)\n",
        "a.png", says=("x<a and y>b", "List<a> and Map<b, c>", "$a < b$", "the <table> tag and the <title> tag, <name> too", "end")),
    _md("tags in text", "<b>x</b> a<br>b <i>c</i><T>d</T>\n", says=("x a\nb cd",)),
    _md("front matter", "---\ntitle: The title\n---\n\n![x](a.png)\n", "a.png", says=("# The title",)),
    _md("no front matter", "---\n![x](a.png)\n---\n", "a.png"),
    _md("code", "`![no](a.png)` ``a ` ![no](a.png)``\n\n~~~\n![no](a.png)\n~~~\n\n- x\n\n      ![no](a.png)\n\n<pre><img src='b.png'></pre>\n",
        "b.png", says=("`![no](a.png)`", "~~~\n![no](a.png)\n~~~")),
    _md("a bar in a table's code", "| a | b |\n|---|---|\n| `x | ![x](a.png) |\n| y` | ![y](b.png) |\n", "a.png", "b.png"),
    _md("references", '![alt][pic] ![pic] ![none] [![l](b.png)](u)\n\n[pic]: a.png "title"\n', "a.png", "a.png", "b.png", says=("![none]",)),
    _md("other screens", '<picture><source media="(prefers-color-scheme: dark)" srcset="b.png"><img src="a.png"></picture>\n', "a.png"),
    _md("comment", "<!-- ![no](b.png) -->\n![x](a.png) <!-- x -->\n\n<!-- ![no](b.png)\n\n![no](b.png) -->\n", "a.png"),
    _md("missing and elsewhere", "![x](none.png)\n<img src='https://x.example/y.png'>\n", lists=("none.png", "https://x.example/y.png")),
]  # fmt: skip
HTML = [
    _html("saved by a browser", '<p>x<img src="page_files/f.png" data-src="https://cdn.example/f.png">y', "page_files/f.png"),
    _html("loads late", f'<img src="{GIF}" data-original="a.png"><img src="{GIF}" data-lazy-src="b.png"><img data-src="c d.png" src="{GIF}">',
          "a.png", "b.png", "c d.png"),
    _html("loads late from elsewhere", f'<img src="{GIF}" data-src="https://cdn.example/f.png">', lists=("https://cdn.example/f.png",)),
    _html("late set", f'<img src="{GIF}" data-srcset="a.png 1x, b.png 2x">', "b.png"),
    _html("for browsers without scripts", f'<img class="lazy" src="{GIF}"><noscript><img src="a.png"></noscript><p>x<noscript>no</noscript>', "a.png"),
    _html("without scripts first", f'<p><noscript><img src="a.png"></noscript><img src="{GIF}" data-src="https://x.example/a.png">', "a.png"),
    _html("largest", '<img srcset="b.png 100w, a.png 2000w" src="b.png"><img srcset="a.png, img/e.png 2x"><img srcset="a.png,b.png">',
          "a.png", "img/e.png", "a.png"),
    _html("base", '<head><base href="img/"></head><p>x<img src="e.png"><img src="/a.png">', "img/e.png", "a.png"),
    _html("picture", '<picture><source srcset="a.png" type="image/png"></picture><picture><source srcset="b.png"><img src="a.png"></picture>'
          '<picture><source srcset="none.avif"><img src="img/e.png"></picture>', "a.png", "b.png", "img/e.png"),
    _html("other elements", '<object data="a.png">alt</object><embed src="b.png"><input type=image src="c d.png"><video poster="img/e.png"></video>',
          "a.png", "b.png", "c d.png", "img/e.png"),
    _html("object of another kind", '<object data="x.pdf">text <img src="a.png"></object>', "a.png", says=("text",)),
    _html("drawings", '<p>x<svg viewBox="0 0 1 1"><title>Logo</title><image href="a.png"/></svg>y', says=("xy",), lists=("<svg> Logo", "a.png")),
    _html("backgrounds", '<div style="background: url(a.png)">hero</div>', says=("hero",), lists=("a.png",)),
    _html("formulas", '<p>is <math alttext="\\pi"><mi>r</mi></math>, <math><semantics><mi>x</mi><annotation encoding="application/x-tex">x_1'
          "</annotation></semantics></math>, <math><mi>y</mi><mo>=</mo><mn>2</mn></math>.", says=("is $\\pi$, $x_1$, y=2.",)),
    _html("aside", '<p>main</p><aside class="note"><p>Note.</p><img src="a.png"></aside>', "a.png", says=("Note.",)),
    _html("left out", '<nav>x<img src="a.png"></nav><p>y<p style="display: none">no <img src="b.png">', says=("y",), lists=("a.png", "b.png")),
    _html("hidden and not closed", "<p hidden>no<p>yes <img src=a.png>", "a.png", says=("yes",)),
    _html("odd values", "<img src=a.png alt><img src='page_files\\f.png'><img src=' b.png '><image src=a.png><img alt='a > b' src=a.png?x#y>",
          "a.png", "page_files/f.png", "b.png", "a.png", "a.png"),
    _html("misplaced in a table", "<table><img src=b.png><tr><td><img src=a.png></table>", "b.png", "a.png"),
    _html("text of other kinds", "<textarea><img src=a.png></textarea><script>'<img src=a.png>'</script><template><img src=a.png></template>"
          "<!-- <img src=a.png> --><pre>&lt;img src=a.png></pre>", says=("<img src=a.png>",)),
    _html("broken", "a <![foo b", ),
    _html("missing and elsewhere", "<img src=none.png><img src=https://x.example/y.png><img src=https://x.example/y.png srcset='none.png 2x'>",
          lists=("none.png", "https://x.example/y.png", "none.png")),
]  # fmt: skip
CASES = [*MARKDOWN, *HTML]
