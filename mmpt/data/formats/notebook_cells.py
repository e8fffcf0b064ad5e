"""The cells of a Jupyter notebook as runs of text with the pictures between them, in order."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mmpt.data.formats.html_blocks import html_blocks
from mmpt.data.formats.html_tree import Page
from mmpt.data.formats.markdown_html import markdown_html
from mmpt.data.formats.references import Picture

PICTURES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]")


def cell_blocks(cell: Any, language: str, outputs: bool) -> Iterator[str | Picture]:
    """What a cell shows. What it has of another kind comes as a picture that cannot be had, with its reason."""
    if cell.cell_type == "markdown":
        for block in html_blocks(Page(markdown_html(cell.source), cell.source)):
            yield block if isinstance(block, str) else _attached(block, cell.get("attachments") or {})
    elif cell.cell_type != "code":
        if cell.source.strip():
            yield Picture((f"{cell.cell_type} cell",), "", 0, reason="neither Markdown nor code", rule="raw cell")
    else:
        if cell.source.strip():
            yield fenced(cell.source, language)
        for output in cell.outputs if outputs else ():
            yield from _output_blocks(output)


def fenced(text: str, language: str = "") -> str:
    """Text as a block of code in Markdown, behind a fence longer than any in it."""
    longest = max((len(fence) for fence in re.findall(r"`{3,}", text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10)).rstrip()}\n{fence}"


def _attached(block: Picture, attachments: dict) -> Picture:
    name = block.targets[0].partition("attachment:")[2] if block.targets else ""
    if not name:
        return block
    for kind, data in (attachments.get(name) or {}).items():
        if kind in PICTURES:
            return replace(block, targets=(_data_url(kind, data),))
    return replace(block, reason="no such attachment")


def _data_url(kind: str, data: object) -> str:
    return f"data:{kind};base64,{''.join(data) if isinstance(data, list) else data}"


def _output_blocks(output: Any) -> Iterator[str | Picture]:
    if output.output_type == "stream":
        if text := _TERMINAL.sub("", _text(output.text)):
            yield fenced(text)
        return
    if output.output_type == "error":
        yield fenced(_TERMINAL.sub("", f"{output.get('ename', '')}: {output.get('evalue', '')}"))
        return
    data = output.get("data") or {}
    if kind := next((kind for kind in PICTURES if kind in data), ""):
        yield Picture((_data_url(kind, data[kind]),), "", 0)
    elif "image/svg+xml" in data:
        yield Picture(("<svg>",), "", 0, reason="drawn in an output (svg)")
    elif text := _text(data.get("text/markdown")):
        yield from html_blocks(Page(markdown_html(text), text))
    elif text := _text(data.get("text/latex")):
        yield text
    elif text := _TERMINAL.sub("", _text(data.get("text/plain"))):
        yield fenced(text)
    elif text := _text(data.get("text/html")):
        yield from html_blocks(Page(text))
    elif data:
        kinds = ", ".join(map(str, data))
        yield Picture((f"output of {kinds}",), "", 0, reason="neither a picture nor text", rule="output")


def _text(value: object) -> str:
    """Text that may be a list of lines."""
    found = "".join(map(str, value)) if isinstance(value, list) else value if isinstance(value, str) else ""
    return found if found.strip() else ""
