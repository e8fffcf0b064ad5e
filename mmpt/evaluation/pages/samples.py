"""What a run wrote, said and drew after its prompts, step by step."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmpt import html
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Document

SHOWN = 3
"""Steps beside each other: the last, and others evenly spaced before it."""


def samples_page(step: int, documents: Sequence[Document]) -> str:
    """A page of one step."""
    return html.page(f"Samples of step {step}", [html.card(_table({step: documents}))])


def samples_section(run: Path) -> html.Html:
    """A card on the samples in `run`/samples, nothing where there are none."""
    folders = sorted((run / "samples").glob("step-*"))
    chosen = dict.fromkeys(folders[round(place * (len(folders) - 1) / (SHOWN - 1))] for place in range(SHOWN) if folders)
    if not chosen:
        return html.Html("")
    steps = {int(folder.name.removeprefix("step-")): list(DocumentShards(folder)) for folder in chosen}
    return html.join([html.heading("Samples"), html.card(_table(steps))])


def _table(steps: Mapping[int, Sequence[Document]]) -> html.Html:
    """A row for each prompt, a column for each step; prompts are those of the last."""
    *_, last = steps.values()
    rows = []
    for number, document in enumerate(last):
        asked = document.parts[: document.meta["asked"]]
        answers = [_answer(documents[number]) if number < len(documents) else "" for documents in steps.values()]
        rows.append([html.parts(asked), *answers])
    return html.table(rows, ["asked", *(f"step {step}" for step in steps)])


def _answer(document: Document) -> html.Html:
    if problem := document.meta.get("problem"):
        return html.quiet(f"{document.meta['tokens']} tokens that stand for nothing: {problem}")
    return html.parts(document.parts[document.meta["asked"] :])
