"""Text with pictures in between, on modules of textbooks that were held out: is it well-formed, where do pictures stand, and do
their codes have to do with what is written before them.

    OMP_NUM_THREADS=1 python recipes/benches/interleaved.py [RUN] [SHARDS]

RUN: a model as of recipes/textbooks.yaml (default runs/textbooks/model); SHARDS: documents with captions before their pictures
(default runs/textbooks/shards_test). The loss on a picture's codes is taken after the title and its own caption, and after those
of other pictures, three each; intervals are over resampled modules. Then the model goes on from the beginning of
each module. Writes recipes/results/interleaved.json.
"""

import random
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmpt.data.shards.read import DocumentShards
from mmpt.document import Document, Image, Part, Text
from mmpt.errors import MmptError
from mmpt.evaluation.metrics.intervals import Measure, measure
from mmpt.evaluation.metrics.likelihood import token_scores
from mmpt.inference.load import MultimodalModel, load
from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "recipes" / "results" / "interleaved.json"
OTHERS, PROMPT_WORDS, TOKENS = 3, 60, 400
SAMPLING = {"text": {"temperature": 0.7, "top_p": 0.95}, "image": {"temperature": 1.0, "top_p": 0.95}}
CAPTION = re.compile(r"Figure \d+\.")


class Shown(NamedTuple):
    """A picture of a held-out module, and what stands before it: the title of the module, its caption, its alternative text."""

    module: str
    book: str
    title: str
    caption: str
    image: Image


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("run", nargs="?", type=Path, default=Path("runs/textbooks/model"))
    parser.add_argument("shards", nargs="?", type=Path, default=Path("runs/textbooks/shards_test"))
    arguments = parser.parse_args()
    documents = list(DocumentShards(arguments.shards))
    model = load(arguments.run)
    shown = pictures(documents)
    figures = [*likelihoods(model, shown), *openings(model, shown), *generated(model, documents)]
    sys.exit(0 if report(figures, RESULT) else 1)


def pictures(documents: Sequence[Document]) -> list[Shown]:
    """The pictures that have a caption before them."""
    found = []
    for document in documents:
        for before, part in zip(document.parts, document.parts[1:], strict=False):
            caption = last_paragraph(before)
            if isinstance(part, Image) and CAPTION.match(caption):
                found.append(Shown(document.id, document.meta["book"], f"# {document.meta['title']}", caption, part))
    return found


def last_paragraph(part: Part) -> str:
    return part.text.rstrip().rsplit("\n\n", 1)[-1] if isinstance(part, Text) else ""


def likelihoods(model: MultimodalModel, shown: Sequence[Shown]) -> list[Figure]:
    """How much likelier a picture's codes are after its own words than after those of others."""
    vocabulary = model.tokenizer.vocabulary
    figures = [
        Figure("held-out pictures", len(shown)),
        Figure("loss of a code by chance", float(np.log(vocabulary.image_codes))),
    ]
    codes = [ids for (ids,) in model.tokenizer.encode([[one.image] for one in shown])]
    ways = {
        "caption": lambda one, words: (Text(f"{one.title}\n\n{words.caption}"),),
        "alternative text": lambda _, words: (Text("draw"), Text(words.image.alt)),
    }
    for way, said in ways.items():
        for among, same in (("the same book", True), ("either book", False)):
            draw = random.Random(0)
            asked: list[tuple[Part, ...]] = []
            for one in shown:
                others = [other for other in shown if other is not one and (other.book == one.book or not same)]
                asked += [said(one, words) for words in (one, *draw.sample(others, OTHERS))]
            prompts = [prompt.ids for prompt in model.prompts(asked)]
            rows = [(*prompt, *codes[number // (OTHERS + 1)]) for number, prompt in enumerate(prompts)]
            scores = [np.nansum(found.log_probability) for found in token_scores(model.model, vocabulary, rows, "image")]
            losses = -np.array(scores).reshape(len(shown), OTHERS + 1) / vocabulary.codes_per_image
            figures += compared(f"{way}, others of {among}", losses, [one.module for one in shown])
    return figures


def openings(model: MultimodalModel, shown: Sequence[Shown]) -> list[Figure]:
    """How likely a picture begins right after a caption, and two thirds into it, where none may."""
    vocabulary = model.tokenizer.vocabulary
    mark = vocabulary.special("<|image|>")
    prompts = [prompt.ids for prompt in model.prompts([(Text(f"{one.title}\n\n{one.caption}"),) for one in shown])]
    ways = {"after": [(*ids, mark) for ids in prompts], "inside": [(*ids[: len(ids) * 2 // 3], mark) for ids in prompts]}
    means: dict[str, float] = {}
    for way, rows in ways.items():
        last = [found.log_probability[-1] for found in token_scores(model.model, vocabulary, rows)]
        means[way] = float(np.exp(last).mean())
    return [
        Figure("probability of a picture after a caption", means["after"]),
        Figure("after a caption ÷ inside it", means["after"] / means["inside"], 10.0),
    ]


def compared(name: str, losses: np.ndarray, modules: Sequence[str]) -> list[Figure]:
    """`losses` [pictures, 1 + others] of a code, the right words first."""
    less = losses[:, 1:].mean(axis=1) - losses[:, 0]
    gain, first = by_module(less, modules), by_module((losses[:, :1] < losses[:, 1:]).all(axis=1), modules)
    return [
        Figure(f"loss of a code: {name}", losses[:, 0].mean()),
        Figure(f"loss after other words less loss after its own: {name}", gain.value),
        Figure(f"the same, low end of its interval: {name}", gain.low, 0.0),
        Figure(f"the same, high end: {name}", gain.high),
        Figure(f"own words first among {OTHERS + 1}: {name}", first.value),
        Figure(f"first, low end of its interval: {name}", first.low, 1 / (OTHERS + 1)),
    ]


def by_module(values: np.ndarray, modules: Sequence[str]) -> Measure:
    """The mean over pictures; modules are resampled whole, since the pictures of one are alike."""
    names = sorted(set(modules))
    own = [values[[module == name for module in modules]] for name in names]
    return measure("", len(names), lambda chosen: float(np.concatenate([own[n] for n in chosen]).mean()))


def generated(model: MultimodalModel, documents: Sequence[Document]) -> list[Figure]:
    """What the model writes after the beginning of each module."""
    vocabulary = model.tokenizer.vocabulary
    prompts = [(Text(beginning(document)),) for document in documents]
    rows = model.generate(model.prompts(prompts), outputs=["text", "image"], max_new_tokens=TOKENS, max_parts=100, **SAMPLING)
    whole = opened = words = captions = after_caption = answered = 0
    for row in rows:
        opened += row.count(vocabulary.special("<|image|>"))
        parts = decoded(model, row)
        before: Part = Text("")
        for part in parts:
            if isinstance(part, Image):
                whole += 1
                after_caption += bool(CAPTION.match(last_paragraph(before)))
            elif isinstance(part, Text):
                words += len(part.text.split())
                captions += len(re.findall(rf"^{CAPTION.pattern}", part.text, re.MULTILINE))
            before = part
        answered += any(isinstance(part, Image) for part in parts)
    own_words = sum(len(part.text.split()) for document in documents for part in document.parts if isinstance(part, Text))
    own = sum(isinstance(part, Image) for document in documents for part in document.parts)
    return [
        Figure("documents written", len(rows)),
        Figure("of them with a picture", answered / len(rows), 0.5),
        Figure("pictures begun", opened),
        Figure("share complete and decoded", whole / max(opened, 1), 1.0),
        Figure("pictures a thousand words", 1000 * whole / max(words, 1)),
        Figure("pictures a thousand words in the books", 1000 * own / own_words),
        Figure("share of pictures right after a caption", after_caption / max(whole, 1), 0.8),
        Figure("share of captions with a picture right after", after_caption / max(captions, 1), 0.8),
    ]


def beginning(document: Document) -> str:
    """The first words of a module, in whole lines as far as that goes."""
    text = next(part.text for part in document.parts if isinstance(part, Text))
    pieces = re.findall(r"\S+\s*", text)
    return "".join(pieces[:PROMPT_WORDS]).rstrip()


def decoded(model: MultimodalModel, row: list[int]) -> tuple[Part, ...]:
    """The parts; none where the ids break the grammar, or a picture cannot be drawn."""
    try:
        return model.tokenizer.decode(row)
    except MmptError:
        return ()


if __name__ == "__main__":
    main()
