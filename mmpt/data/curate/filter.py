"""Documents through a list of rules: what goes is listed with its rule and reason, what stays carries its scores."""

import dataclasses
from collections.abc import Iterable

import pydantic

from mmpt.config import Schema
from mmpt.data.curate.rules import PartRule, Rule, judge_document, judge_part
from mmpt.data.lost import Documents, Lost
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.document import Document
from mmpt.errors import DataError


class FilterConfig(Schema):
    """`rules` in the order in which they are asked; a part or document that one drops is not shown to the next."""

    rules: tuple[Rule, ...] = pydantic.Field(min_length=1)


class FilterJob(Schema):
    """The set in `folder`, filtered as `spec` says."""

    folder: str
    spec: FilterConfig


def units(job: FilterJob) -> list[Unit]:
    """One for each shard."""
    return shards.units(shards.ShardsConfig(folder=job.folder))


def read(job: FilterJob, unit: Unit) -> Documents:
    """What is left of a shard."""
    return filtered(job.spec, shards.read(shards.ShardsConfig(folder=job.folder), unit))


def filtered(config: FilterConfig, documents: Iterable[Document | Lost]) -> Documents:
    """The documents that stay, with scores in meta["scores"], and everything that goes.

    A document that loses its last part goes whole, by the rule that took it; one that a rule cannot examine is bad data.
    """
    for document in documents:
        if isinstance(document, Lost):
            yield document
            continue
        try:
            yield from _one(config, document)
        except DataError as problem:
            yield Lost(document.id, str(problem), document.id)


def _one(config: FilterConfig, document: Document) -> Documents:
    scores: dict[str, list[float] | float] = {}
    lost: list[Lost] = []
    places = list(range(len(document.parts)))  # of the parts that are left, in the document as it came
    for rule in config.rules:
        if not isinstance(rule, PartRule):
            why, found = judge_document(rule, document)
            scores |= found
            if why:
                yield Lost(document.id, why, document.id, True, rule.rule)
                return
            continue
        kept = []
        for place in range(len(document.parts)):
            why, found = judge_part(rule, document, place)
            for name, score in found.items():
                scores.setdefault(name, []).append(score)
            item = f"{document.id}, part {places[place]}"
            if why and rule.drop == "document":
                yield Lost(item, why, document.id, True, rule.rule)
                return
            if why:
                lost.append(Lost(item, why, document.id, False, rule.rule))
            else:
                kept.append(place)
        if not kept:
            yield Lost(document.id, f"no part left: {lost[-1].reason}" if lost else "no part", document.id, True, rule.rule)
            return
        places = [places[place] for place in kept]
        document = dataclasses.replace(document, parts=tuple(document.parts[place] for place in kept))
    yield from lost
    if scores:
        document = dataclasses.replace(document, meta={**document.meta, "scores": {**document.meta.get("scores", {}), **scores}})
    yield document
