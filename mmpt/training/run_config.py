"""What a run does beside learning: the `run` section of a recipe."""

import pydantic

from mmpt.config import Schema
from mmpt.training.trackers import Tracker


class ProfileConfig(Schema):
    """Which steps torch's profiler looks at."""

    model_config = pydantic.ConfigDict(populate_by_name=True)

    first: int = pydantic.Field(default=10, ge=1, alias="from")
    """The first of them, not that of a start: kernels are chosen and memory is found there."""
    steps: int = pydantic.Field(default=3, ge=1, le=100)
    """How many; a trace of many is larger than its viewers take."""


class RunConfig(Schema):
    """What a run does beside learning: its seed, its checkpoints, its log, when it ends."""

    seed: int = pydantic.Field(default=0, ge=0)
    """Of every random choice: weights, the order of the data, dropout."""
    save_every: int = pydantic.Field(default=1000, ge=1)
    """Steps between two checkpoints; the last step gives one too."""
    keep: int = pydantic.Field(default=2, ge=1)
    """The newest checkpoints that are kept."""
    copy_to: str | None = None
    """A folder or fsspec URL (s3://bucket/run) to which each checkpoint is copied, as many as are kept here. A run that finds
    none of its own begins with the newest there."""
    log_every: int = pydantic.Field(default=10, ge=1)
    """Steps between two lines of metrics.jsonl."""
    trackers: list[Tracker] = []
    """Where the figures of the log go too."""
    profile: ProfileConfig | None = None
    """Steps that torch's profiler records, into OUTPUT/profile."""
    stall_timeout: float | None = pydantic.Field(default=1800.0, gt=0)
    """Seconds without progress on any rank after which all end, naming the one that is behind; null: they wait."""
    skip_steps: list[int] = []
    """Numbers of steps whose documents are left out, such as one that gave a NaN."""
    max_skipped: int = pydantic.Field(default=0, ge=0)
    """So many steps whose loss or gradient is not finite are left out too, each listed in OUTPUT/skipped.jsonl, before one ends
    the run."""

    @pydantic.field_validator("trackers")
    @classmethod
    def _each_once(cls, trackers: list[Tracker]) -> list[Tracker]:
        kinds = [tracker.kind for tracker in trackers]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"expected each tracker once, found {', '.join(kinds)}")
        return trackers
