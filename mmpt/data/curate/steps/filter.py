"""Documents through a list of rules: what goes is listed with its rule and reason, what stays carries its scores."""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import ClassVar

import pydantic

from mmpt.data.curate.rules import DocumentRule, PartRule, Rule, Verdict
from mmpt.data.curate.steps import Step
from mmpt.data.lost import Lost
from mmpt.document import Document
from mmpt.errors import DataError


class Filter(Step):
    """Documents that pass a list of rules, as web corpora are filtered: Gopher's (Rae et al. 2021, arXiv:2112.11446, table A1)
    and others'.

    A document that loses its last part goes whole, by the rule that took it; one that a rule cannot examine is bad data. Scores
    stay in meta["scores"].
    """

    carries: ClassVar[tuple[str, ...]] = ("Dolma",)

    keeps_documents: ClassVar = True
    rules: tuple[Rule, ...] = pydantic.Field(min_length=1)
    """In the order in which they are asked; a part or document that one drops is not shown to the next."""

    def run(self, documents: Iterable[Document | Lost], told: None = None) -> Iterator[Document | Lost]:
        """The documents that stay, and everything that goes."""
        for document in documents:
            if isinstance(document, Lost):
                yield document
                continue
            try:
                yield from _one(self.rules, document)
            except DataError as problem:
                yield Lost(document.id, str(problem), document.id)


def _one(rules: tuple[Rule, ...], document: Document) -> Iterator[Document | Lost]:
    scores: dict[str, float] = {}
    of_parts: dict[str, list[float]] = {}
    lost: list[Lost] = []
    places = list(range(len(document.parts)))  # of the parts that are left, in the document as it came
    for rule in rules:
        if isinstance(rule, DocumentRule):
            verdict = rule.judge(document)
            scores |= verdict.scores
            if verdict.reason:
                yield Lost(document.id, verdict.reason, document.id, True, rule.kind)
                return
        if not isinstance(rule, PartRule):
            continue
        kept = []
        for place, part in enumerate(document.parts):
            verdict = rule.judge(part, document, place) if isinstance(part, rule.judges) else Verdict()
            for name, score in verdict.scores.items():
                of_parts.setdefault(name, []).append(score)
            item = f"{document.id}, part {places[place]}"
            if verdict.reason and rule.drop == "document":
                yield Lost(item, verdict.reason, document.id, True, rule.kind)
                return
            if verdict.reason:
                lost.append(Lost(item, verdict.reason, document.id, False, rule.kind))
            else:
                kept.append(place)
        if not kept:
            yield Lost(document.id, f"no part left: {lost[-1].reason}" if lost else "no part", document.id, True, rule.kind)
            return
        places = [places[place] for place in kept]
        document = dataclasses.replace(document, parts=tuple(document.parts[place] for place in kept))
    yield from lost
    if scores or of_parts:
        known = document.meta.get("scores", {})
        document = dataclasses.replace(document, meta={**document.meta, "scores": {**known, **scores, **of_parts}})
    yield document
