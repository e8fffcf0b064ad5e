"""Random pages: blocks within blocks, with words w0, w1, … and pictures of which some exist, some are missing, some elsewhere."""

import random
from collections.abc import Callable

PICTURES = 24
"""p0.png to p23.png exist; those after them do not."""


class Page:
    """One page; each word and picture gets the next number."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self._words = 0

    def word(self) -> str:
        self._words += 1
        return f"w{self._words}"

    def target(self) -> str:
        number = self.draw.randrange(PICTURES + 4)
        return f"https://elsewhere.example/p{number}.png" if self.draw.random() < 0.1 else f"img/p{number}.png"

    def some(self, make: Callable[[], str], most: int = 3) -> list[str]:
        return [make() for _ in range(self.draw.randint(1, most))]

    # HTML

    def tag(self) -> str:
        """An element that shows a picture."""
        target, draw = self.target(), self.draw
        return draw.choice(
            [
                f'<img src="{target}">',
                f"<img alt='a > b' src={target} />",
                f'<img\n   width="3"\n   src="{target}"\n>',
                f'<a href="x"><img src="{target}" alt="a"></a>',
                f'<picture><source srcset="img/other.png" media="(min-width: 9px)"><img src="{target}"></picture>',
                f'<img srcset="img/other.png 400w, {target} 800w">',
                f'<img src="{target}" loading=lazy alt="x &amp; &quot;y&quot;">',
            ]
        )

    def phrase(self, depth: int = 2) -> str:
        """Words and pictures within a line."""
        choice = self.draw.randrange(9)
        if choice < 3 or depth == 0:
            return self.word()
        if choice < 6:
            return self.tag()
        name = self.draw.choice(["b", "i", "span", "em", "a", "code", "sup", "kbd"])
        return f"<{name}>{' '.join(self.some(lambda: self.phrase(depth - 1)))}</{name}>"

    def html(self, depth: int = 4) -> str:
        """A block, in any of its usual forms: closed or not, indented or not."""
        if depth == 0:
            return f"<p>{' '.join(self.some(self.phrase))}{self.draw.choice(['', '</p>'])}"
        pad, inner = self.draw.choice(["", "  ", "    ", "\t"]), lambda: self.html(depth - 1)
        lines = ("\n" + pad).join(self.some(inner))
        choice = self.draw.randrange(8)
        if choice == 0:
            cells = "".join(f"{pad}<td>{inner()}</td>\n" for _ in range(2))
            return f"<table>\n  <tr>\n{cells}</tr></table>"
        if choice == 1:
            return f"<ul><li>{lines}<li>{inner()}</ul>"
        if choice == 2:
            return f"<!-- <img src=img/p0.png> -->{lines}"
        if choice == 3:
            return f"<details><summary>{self.phrase()}</summary>\n{pad}{lines}</details>"
        if choice == 4:
            return f"{' '.join(self.some(self.phrase))}<hr>\n"
        name = self.draw.choice(["div", "section", "aside", "blockquote", "center", "figure", "article", "x-card"])
        return f"<{name} class=c>\n{pad}{lines}\n</{name}>"

    # Markdown

    def span(self, depth: int = 2) -> str:
        target, choice = self.target(), self.draw.randrange(14)
        if choice < 4 or depth == 0:
            return self.word()
        if choice < 6:
            alt, title = self.draw.choice(["", "*b*", "[c]", "`d`"]), self.draw.choice(["", ' "t"'])
            return f"![a {alt}]({target}{title})"
        if choice == 6:
            return self.tag().replace("\n", " ")
        if choice == 7:
            return f"[![x]({target})](https://x.example)"
        if choice == 8:
            return "`![no](img/p0.png)`"
        if choice == 9:
            return f"[{self.span(0)} ![y](<{target}>)](z)"
        if choice == 10:
            return f"![ref][r{self.draw.randrange(4)}]"
        mark = self.draw.choice(["*", "**", "_"])
        return f"{mark}{' '.join(self.some(lambda: self.span(depth - 1)))}{mark}"

    def lines(self) -> list[str]:
        """A paragraph's. One that begins with a tag is HTML to its end, where the readings of Markdown in it differ."""
        lines = [" ".join(self.some(self.span)) for _ in range(self.draw.randint(1, 3))]
        return lines[:1] if lines[0][0] == "<" else [lines[0], *(line for line in lines[1:] if line[0] != "<")]

    def block(self, depth: int = 3) -> list[str]:
        """The lines of a block."""
        draw, choice = self.draw, self.draw.randrange(13)
        if choice < 3 or depth == 0:
            return self.lines()
        inner = [line for block in self.some(lambda: [*self.block(depth - 1), ""]) for line in block][:-1]
        if choice < 6:
            mark = draw.choice(["- ", "* ", "1. ", "10) "])
            return [mark + inner[0], *(" " * len(mark) + line if line else "" for line in inner[1:])]
        if choice == 6:
            return [f"> {line}" for line in inner]
        if choice == 7:
            return [f"{'#' * draw.randint(1, 6)} {self.lines()[0]}"]
        if choice == 8:
            return ["```html", '<img src="img/p0.png">', "![no](img/p1.png)", "```"]
        if choice == 9:
            cells = [f"| {self.span()} | {self.span()} |" for _ in range(draw.randint(1, 3))]
            return ["| a | b |", "|:--|--:|", *cells]
        if choice == 10:
            name = draw.choice(["div", "center", "details", "p", "section"])
            return [f"<{name} align=center>", "", *inner, "", f"</{name}>"]
        if choice == 11:
            return ["    ![no](img/p0.png)", '    <img src="img/p1.png">']
        return self.html(2).split("\n")

    def markdown(self) -> str:
        blocks = [line for block in self.some(lambda: [*self.block(), ""], 6) for line in block]
        return "\n".join([*blocks, *(f"[r{number}]: {self.target()}" for number in range(4)), ""])


PIECES = [
    "<", ">", "</", "<!--", "-->", "<!", "<![CDATA[", "]]>", "<?", "&", "&#x110000;", "&#0;", "\0", '"', "'", "=", " ", "\n",
    "\t", "\n\n", "    ", "p", "li", "table", "td", "img", "svg", "math", "select", "template", "noscript", "object", "pre",
    "title", "<div>", "</div>", "<table>", "<tr>", "<td>", "<li>", "<img src='img/p0.png'>", "<svg>", "<math>", "<pre>",
    "<base href=x>", "![", "](", ")", "[", "]", "`", "```\n", "*", "_", "> ", "- ", "1. ", "# ", "|", "|-|\n", "---\n", "+++\n",
    "{", "}", "{:", "{{<", ">}}", "![[", "]]", "!!! note\n", '=== "a"\n', "img/p1.png", " src=", " srcset=",
    "data:image/png;base64,", "http://[", "\\", "é", "\u2028",
]  # fmt: skip


def soup(seed: int) -> str:
    """Pieces of markup in any order."""
    draw = random.Random(seed)
    return "".join(draw.choices(PIECES, k=draw.randint(1, 60)))
