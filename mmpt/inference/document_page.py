"""What was asked and written as one page to open: text with its pictures and sounds in place, HTML or Markdown."""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from mmpt import html
from mmpt.document import Image, Part, Text
from mmpt.errors import ConfigError

SUFFIXES = (".html", ".md")

Placed = tuple[Part, Path | None]
"""A part, and the file in which it lies; text lies in none."""


def check_page(page: Path | None) -> None:
    """Raises `ConfigError` where no page can be written there."""
    if page and page.suffix not in SUFFIXES:
        raise ConfigError(f"--page {page}: expected a name that ends with {' or '.join(SUFFIXES)}")
    if page and page.exists():
        raise ConfigError(f"--page {page}: there is a file already, which is not overwritten")


def keep(folder: Path, suffix: str, data: bytes, stem: str = "answer") -> Path:
    """Write `data` as `stem`-N.`suffix`, N the first number that is free; nothing is ever overwritten."""
    number = 0
    while True:
        path = folder / f"{stem}-{number}.{suffix}"
        try:
            with open(path, "xb") as file:
                file.write(data)
            return path
        except FileExistsError:  # opened to be made, so that two commands in one folder never take the same number
            number += 1


def document_page(path: Path, prompt: Sequence[Placed], answer: Sequence[Placed]) -> str:
    """The page to be written at `path`, by whose suffix it is HTML with all in one file, or Markdown that refers to the files."""
    return _markdown(path.parent, [*prompt, *answer]) if path.suffix == ".md" else _html(path.stem, prompt, answer)


def _html(title: str, prompt: Sequence[Placed], answer: Sequence[Placed]) -> str:
    body = []
    for parts, looks in ((prompt, "text unlearned"), (answer, "text")):
        for part, _ in parts:
            if isinstance(part, Text):
                body.append(html.tag("div", part.text.strip("\n"), class_=looks))
            else:
                body.append(html.tag("figure", html.part(part)))
    return html.page(title, [html.card(*body)], "What was asked stands beside a line; the rest is the model's.")


def _markdown(folder: Path, parts: Sequence[Placed]) -> str:
    pieces: list[str] = []
    for part, file in parts:
        if isinstance(part, Text):
            # Tags that a model writes are text.
            pieces.append(part.text.replace("&", "&amp;").replace("<", "&lt;"))
        elif file is not None:
            name = quote(os.path.relpath(file, folder).replace(os.sep, "/"))
            pieces.append(f"\n\n{'!' if isinstance(part, Image) else ''}[{file.name}]({name})\n\n")
    return "".join(pieces).strip("\n") + "\n"
