"""Document shards rewritten by a model: restartable, and nothing is asked twice."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.engine.run import RunConfig, Summary, write_set
from mmpt.data.lost import Documents, Lost
from mmpt.data.rewrite.answers import Answers
from mmpt.data.rewrite.operations import Operation
from mmpt.data.rewrite.prompt import Answer, Prompt
from mmpt.data.sources.shards import hashes
from mmpt.data.storable import storable
from mmpt.data.unit import Unit
from mmpt.document import Document
from mmpt.inference.writers import Writer

AHEAD = 8
"""Batches whose prompts are put in order of length, so that those of a batch are about as long as each other."""


class Rewriting(Schema):
    """What is asked about documents, of whom, and what becomes of them."""

    operation: Operation
    """What is asked, and what is made of the answers."""
    writer: Writer
    """Who answers."""


class RewriteJob(ShardSets):
    """The sets, each shard rewritten."""

    rewriting: Rewriting
    """How."""
    answers: str
    """File on this machine in which answers are kept."""


def read(job: RewriteJob, unit: Unit[Portion]) -> Documents:
    """What becomes of the documents of a shard."""
    yield from storable(rewritten(job.rewriting, job.documents(unit), job.answers))


def rewritten(rewriting: Rewriting, documents: Documents, answers: str | Path) -> Documents:
    """What becomes of `documents`, in order.

    A batch is kept whole or not at all. Of a writer whose answers depend on what is answered beside them, the batches follow from
    the documents alone, not from what was answered before: so a run that was stopped gets what a run in one go gets.
    """
    operation, writer = rewriting.operation, rewriting.writer
    identity = writer.identity()
    with Answers(answers) as kept:
        for group, prompts in _groups(operation, documents, AHEAD * writer.batch):
            given = iter(_answered(writer, identity, kept, prompts))
            for one, count in group:
                if isinstance(one, Lost):
                    yield one
                    continue
                asked, said = [], []
                for prompt, answer in islice(given, count):
                    asked.append(prompt)
                    said.append(operation.checks.checked(prompt, answer))
                yield from operation.take(one, said) if asked else (one,)


def _groups(
    operation: Operation, documents: Documents, size: int
) -> Iterator[tuple[list[tuple[Document | Lost, int]], list[Prompt]]]:
    """Documents with how many prompts each has, and those prompts, once there are `size` of them."""
    group: list[tuple[Document | Lost, int]] = []
    prompts: list[Prompt] = []
    for one in documents:
        asked = [] if isinstance(one, Lost) else operation.ask(one)
        group.append((one, len(asked)))
        prompts += asked
        if len(prompts) >= size:
            yield group, prompts
            group, prompts = [], []
    if group:
        yield group, prompts


def _answered(writer: Writer, identity: str, kept: Answers, prompts: Sequence[Prompt]) -> Iterator[tuple[Prompt, Answer]]:
    keys = [f"{identity} {prompt.key()}" for prompt in prompts]
    by_key = dict(zip(keys, prompts, strict=True))
    order = sorted(by_key, key=lambda key: (len(by_key[key].text), key))
    found = kept.known(by_key)
    for start in range(0, len(order), writer.batch):
        batch = order[start : start + writer.batch]
        if all(key in found for key in batch):
            continue
        if not writer.side_by_side:
            batch = [key for key in batch if key not in found]
        new = dict(zip(batch, writer.write([by_key[key] for key in batch]), strict=True))
        # What was refused may be answered another time.
        kept.keep({key: answer for key, answer in new.items() if not answer.refused})
        found = new | found
    return iter([(prompt, found[key]) for prompt, key in zip(prompts, keys, strict=True)])


def rewrite(
    rewriting: Rewriting,
    folder: str,
    out: str,
    answers: str | Path | None = None,
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
    progress: Progress | None = None,
) -> Summary:
    """Write what becomes of the document set `folder` as the set `out`; see `write_set` for the promises. Answers are kept in the
    file `answers`, by default OUT.answers.sqlite beside the set, of a set on a server in the folder in which the command runs."""
    place = answers or (out.rstrip("/").rpartition("/")[2] if "://" in out else out.rstrip("/")) + ".answers.sqlite"
    return write_set(
        out,
        read=read,
        config=RewriteJob(folders=(folder,), rewriting=rewriting, answers=str(place)),
        units=ShardSets(folders=(folder,)).units(),
        built={"rewrite": rewriting.model_dump(mode="json"), "shards": hashes(folder)},
        run=run,
        progress=progress,
        title="rewriting",
        sets=[folder],
    )
