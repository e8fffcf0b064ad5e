"""A step over document sets: one job for all steps, restartable, with the same bytes however many processes take part."""

from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig, Summary, write_set
from mmpt.data.engine.task import Written
from mmpt.data.sources.shards import hashes
from mmpt.data.unit import Unit


class StepJob(ShardSets):
    """The sets, each shard through `step`."""

    step: Step
    """What is done with them."""
    out: str
    """Where the result goes."""


def read(job: StepJob, unit: Unit[Portion]) -> Written:
    """What becomes of the documents of a shard."""
    return job.step.run(job.documents(unit), job.step.recall(unit.what.told, job.out))


def curate(
    step: Step,
    folders: Sequence[Path | str],
    out: Path | str,
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
    title: str = "",
) -> Summary:
    """Write what `step` makes of the document sets `folders`, in order, as the set `out`; see `write_set` for the promises."""
    job = StepJob(folders=tuple(map(str, folders)), step=step, out=str(out).rstrip("/"))
    built = {step.kind: step.model_dump(mode="json"), "shards": [one for folder in job.folders for one in hashes(folder)]}
    if chat := step.chat_format():
        built["chat"] = chat.model_dump(mode="json")
    if step.keeps_documents:
        built["from"] = list(job.folders)
    return write_set(
        out,
        read=read,
        config=job,
        units=step.prepare(job, run, progress, job.out),
        built=built,
        run=run,
        progress=progress,
        title=title,
        vocabulary=step.vocabulary(),
        sets=job.folders,
    )
