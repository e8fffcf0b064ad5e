"""How well transcripts say what is heard."""

import re
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mmpt.data.curate.scorers import Fitted, Scorer
from mmpt.document import Document, Speech


class AsrAgreement(Scorer):
    """1 less the word error rate between the transcripts of a document's utterances and what a recogniser of transformers hears,
    as Whisper (Radford et al. 2022, arXiv:2212.04356) was used to find sets whose transcripts are wrong. Without a
    transcript there is no score."""

    holds_model: ClassVar = True
    model: str = "openai/whisper-base"
    """Folder or Hugging Face name of a recogniser."""

    def reads(self) -> tuple[str, ...]:
        return (self.model,)

    def score(self, documents: Sequence[Document], fitted: Fitted) -> np.ndarray:
        from mmpt.data.curate.scorers._recogniser import transcripts

        spoken = [(owner, part) for owner, one in enumerate(documents) for part in one.parts if isinstance(part, Speech)]
        spoken = [(owner, part, words) for owner, part in spoken if (words := normalised(part.text))]
        heard = transcripts(self.model, [part for _, part, _ in spoken])
        wrong, there = np.zeros(len(documents)), np.zeros(len(documents))
        for (owner, _, words), text in zip(spoken, heard, strict=True):
            wrong[owner] += word_errors(words, normalised(text))
            there[owner] += len(words.split())
        return np.where(there > 0, 1 - wrong / np.maximum(there, 1), np.nan).astype(np.float32)


def normalised(text: str) -> str:
    """Lower case, letters, digits and apostrophes only, single spaces."""
    return " ".join(re.sub(r"[^\w' ]", " ", text.lower().replace("_", " ")).split())


def word_errors(expected: str, found: str) -> int:
    """Substitutions, deletions and insertions (jiwer)."""
    import jiwer

    counts = jiwer.process_words(expected, found)
    return counts.substitutions + counts.deletions + counts.insertions
