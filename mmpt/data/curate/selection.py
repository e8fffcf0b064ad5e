"""Which documents of a pool stay: by conditions on their scores and meta, and by rank or by chance among those that meet them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pydantic

from mmpt.config import Schema
from mmpt.data.curate.formula import Formula, value_of

CONDITION, UNSCORED, MINIMUM, SHARE, QUOTA = "condition", "no score", "minimum", "share", "quota"
"""The rules by which a document goes, in the order in which they are asked."""


class SelectionSettings(Schema):
    """What stays: a document that meets `where`, whose rank `by` is at least `min`, and which is among the best `share`, or
    number of `documents`, or among as many that `gumbel` draws."""

    where: Formula | None = None
    """A condition, such as `clip > 0.25 and language == "en"`; null: every document meets it."""
    by: Formula | None = None
    """What documents are ranked by, such as `dsir` or `-2 * repetition + quality`; more = keep. null: all are equal."""
    min: float | None = None
    """`by` at least."""
    share: float | None = pydantic.Field(default=None, gt=0, le=1)
    """This share of the documents that are left stays, those of the highest `by`; of equals the earlier."""
    documents: pydantic.NonNegativeInt | dict[str, pydantic.NonNegativeInt] | None = None
    """This many instead; by value of `within`: a quota for each, nothing of a value that is not named."""
    within: Formula | None = None
    """A field, such as `source`, `subject` or `cluster`: share or number are taken of each of its values by itself."""
    gumbel: bool = False
    """Drawn without replacement instead of the highest, with probabilities as e to the power of `by`: those of the highest `by`
    plus Gumbel noise (Kool et al. 2019, arXiv:1903.06059), as DSIR does with its log weights."""
    seed: int = 0
    """Of the draw; it depends on this and the documents' ids alone, not on how they lie in shards."""

    @pydantic.model_validator(mode="after")
    def _whole(self) -> "SelectionSettings":
        limited = self.share is not None or self.documents is not None
        if self.share is not None and self.documents is not None:
            raise ValueError("share and documents: expected one of them")
        if self.where is None and self.min is None and not limited:
            raise ValueError("expected where, min, share or documents: every document would stay")
        if self.min is not None and self.by is None:
            raise ValueError("min: of what? `by` is missing")
        if limited and self.by is None and not self.gumbel:
            raise ValueError("share or documents: `by` says which; `gumbel: true` without it draws them at random")
        if not limited and (self.gumbel or self.within is not None):
            raise ValueError("gumbel and within go with share or documents")
        if isinstance(self.documents, dict) and self.within is None:
            raise ValueError("documents: quotas by value, but `within` does not say of which field")
        return self

    @property
    def formulas(self) -> list[str]:
        """Those that are asked of every document."""
        return [one for one in (self.where, self.by, self.within) if one is not None]


def decide(settings: SelectionSettings, rows: Sequence[Mapping[str, Any]], ids: np.ndarray) -> list[str]:
    """For each document the rule by which it goes, "" where it stays. `rows` hold what names in formulas stand for, `ids` uint64
    [documents] the hashes of the documents' ids."""
    rank = np.array([_rank(settings, row) for row in rows], dtype=np.float64).reshape(-1)
    rules = np.full(len(rows), "", dtype=object)
    if settings.where is not None:
        rules[[not value_of(settings.where, row) for row in rows]] = CONDITION
    rules[(rules == "") & np.isnan(rank)] = UNSCORED
    if settings.min is not None:
        rules[(rules == "") & (rank < settings.min)] = MINIMUM
    if settings.share is None and settings.documents is None:
        return rules.tolist()
    if settings.gumbel:
        rank = rank + gumbel_noise(ids, settings.seed)
    groups: dict[str, list[int]] = {}
    for place in np.flatnonzero(rules == "").tolist():
        key = "" if settings.within is None else str(value_of(settings.within, rows[place]))
        groups.setdefault(key, []).append(place)
    for key, places in groups.items():
        best = np.array(places)[np.argsort(-rank[places], kind="stable")]
        rules[best[_room(settings, key, len(places)) :]] = SHARE if settings.share is not None else QUOTA
    return rules.tolist()


def gumbel_noise(ids: np.ndarray, seed: int) -> np.ndarray:
    """float64 [documents] of a standard Gumbel distribution, each a function of the document's hash and the seed."""
    start = _mixed(np.full(1, seed % (1 << 64), dtype=np.uint64))
    uniform = ((_mixed(ids ^ start) >> np.uint64(11)).astype(np.float64) + 0.5) / (1 << 53)
    return -np.log(-np.log(uniform))


def _mixed(values: np.ndarray) -> np.ndarray:
    """SplitMix64 (Steele et al. 2014), which makes 64 even bits of any."""
    values = values + np.uint64(0x9E3779B97F4A7C15)  # wraps around, as it is meant to
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _rank(settings: SelectionSettings, row: Mapping[str, Any]) -> float:
    if settings.by is None:
        return 0.0
    value = value_of(settings.by, row)
    return float(value) if isinstance(value, int | float) else float("nan")


def _room(settings: SelectionSettings, key: str, found: int) -> int:
    if settings.share is not None:
        return round(settings.share * found)
    return settings.documents.get(key, 0) if isinstance(settings.documents, dict) else int(settings.documents or 0)
