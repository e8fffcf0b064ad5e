"""Which caption belongs to a figure?"""

import random
from collections.abc import Iterable, Iterator
from typing import ClassVar

import pydantic

from mmpt.data.curate.compositions import Composition
from mmpt.data.lost import Documents, Lost
from mmpt.document import Document, Image, Part, Text

LETTERS = "ABCDEFGHIJ"


class FigureChoices(Composition):
    """Figures of an article with the captions of others beside their own, to be chosen from (MMSci, Li et al. 2024,
    arXiv:2407.04903, section 3.2).

    Documents stay as they are; behind each come conversations, one for each of its pictures with an alternative text, which is
    its caption. The other choices are captions of the same document where it has enough, else of those before it in the shard.
    """

    carries: ClassVar[tuple[str, ...]] = ("MMSci (PhD-level scientific multimodal data)",)

    choices: int = pydantic.Field(default=4, ge=2, le=len(LETTERS))
    """Captions to choose from, the right one among them; a figure for which there are fewer is not asked about."""
    question: str = "Which caption belongs to this figure?"
    """What is asked, before the choices."""
    seed: int = 0
    """What the other captions and their order are drawn with."""

    def compose(self, documents: Iterable[Document | Lost]) -> Documents:
        before: list[str] = []
        for one in documents:
            yield one
            if isinstance(one, Document):
                yield from self._asked(one, before)
                before = list(dict.fromkeys([*before, *_captions(one)]))[-1000:]

    def _asked(self, document: Document, before: list[str]) -> Iterator[Document]:
        own = list(dict.fromkeys(_captions(document)))
        for number, part in enumerate(document.parts):
            caption = _caption(part)
            if not isinstance(part, Image) or not caption:
                continue
            draw = random.Random(f"{self.seed} {number} {document.id}")
            near = [text for text in own if text != caption]
            far = [text for text in before if text != caption and text not in near]
            others = draw.sample(near, len(near)) + draw.sample(far, len(far))
            if len(others) < self.choices - 1:
                continue
            listed = draw.sample([caption, *others[: self.choices - 1]], self.choices)
            lines = "".join(f"\n({letter}) {text}" for letter, text in zip(LETTERS, listed, strict=False))
            picture = Image(part.data, part.suffix, part.width, part.height, role="user", weight=0.0)
            asked = Text(f"{self.question}{lines}", 0.0, "user")
            answer = Text(f"({LETTERS[listed.index(caption)]})", 1.0, "assistant", 1)
            yield Document(f"{document.id}/figure-{number}", document.source, (picture, asked, answer), document.meta)


def _caption(part: Part) -> str:
    return " ".join(part.alt.split()) if isinstance(part, Image) and part.alt else ""


def _captions(document: Document) -> list[str]:
    return [caption for part in document.parts if (caption := _caption(part))]
