"""Document shards to token shards: each document through the tokenizers, as one or several arranged sequences."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.arrange import Arrangement, arrange, as_it_stands
from mmpt.data.engine.run import RunConfig, Summary, write_set
from mmpt.data.lost import Lost
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.sources import shards
from mmpt.data.sources.base import Unit
from mmpt.document import Document, Text
from mmpt.errors import DataError
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.vocabulary import Vocabulary

BATCH = 256


class ToTokensConfig(Schema):
    """Folders of the tokenizers (`text` may be a Hugging Face name), and the sequences to make of each document (of the
    first `documents`, all by default)."""

    text: str
    speech: Path | None = None
    image: Path | None = None
    arrangements: tuple[Arrangement, ...] = ()
    documents: int | None = None


class _Job(Schema):
    spec: ToTokensConfig
    folders: tuple[str, ...]


def write_tokens(
    config: ToTokensConfig,
    folders: Sequence[Path | str],
    out: Path | str,
    progress: Progress,
    title: str,
    run: RunConfig = RunConfig(),  # noqa: B008 (frozen)
) -> Summary:
    """Encode every document of the shard sets `folders` into the token shards `out`; see `write_set` for what is promised."""
    job = _Job(spec=config, folders=tuple(map(str, folders)))
    return write_set(
        out,
        read=read,
        config=job,
        units=units(job),
        built={"spec": config.model_dump(mode="json"), "shards": [one for folder in folders for one in shards.hashes(folder)]},
        run=run,
        progress=progress,
        title=title,
        vocabulary=_tokenizer(config).vocabulary,
    )


def units(job: _Job) -> list[Unit]:
    """One for each shard that is needed: [number of the set, the shard, how many of its documents]."""
    left = job.spec.documents
    found = []
    for number, folder in enumerate(job.folders):
        for unit in shards.units(shards.ShardsConfig(folder=folder)):
            count = unit.what["documents"] if left is None else min(left, unit.what["documents"])
            if count:
                found.append(Unit([number, unit.what, count], unit.size))
                left = None if left is None else left - count
    return found


def read(job: _Job, unit: Unit) -> Iterator[TokenDocument | Lost]:
    """The sequences of the documents of a shard."""
    number, shard, count = unit.what
    stream = islice(shards.read(shards.ShardsConfig(folder=job.folders[number]), Unit(shard, unit.size)), count)
    tokenizer, arrangements = _tokenizer(job.spec), job.spec.arrangements
    while batch := list(islice(stream, BATCH)):
        yield from (one for one in batch if isinstance(one, Lost))
        documents = [one for one in batch if isinstance(one, Document)]
        try:
            yield from list(token_documents(documents, tokenizer, arrangements))
        except DataError:  # one of them: which?
            for document in documents:
                try:
                    yield from list(token_documents([document], tokenizer, arrangements))
                except DataError as problem:
                    yield Lost(f"{shard['name']}: {document.id}", str(problem), document.id)


@lru_cache(maxsize=1)
def _tokenizer(config: ToTokensConfig) -> MultimodalTokenizer:
    """Loaded once in each process."""
    return MultimodalTokenizer.load(config.text, config.speech, config.image)


def token_documents(
    documents: Iterable[Document], tokenizer: MultimodalTokenizer, arrangements: Sequence[Arrangement] = ()
) -> Iterator[TokenDocument]:
    """One `TokenDocument` for each document and arrangement that fits it; without arrangements, each document as it stands.

    Ids are `<|begin|>` parts `<|end|>`; each id carries the loss weight of its part. A part's ids are computed once, however
    many arrangements use it.
    """
    prompts = [Text(arrangement.prompt) for arrangement in arrangements if arrangement.prompt]
    prompt_ids = {part.text: ids for part, ids in zip(prompts, tokenizer.encode([prompts])[0], strict=True)}
    stream = iter(documents)
    while batch := list(islice(stream, BATCH)):
        encoded = tokenizer.encode([document.parts for document in batch])
        for document, ids_of_parts in zip(batch, encoded, strict=True):
            ids_of = {id(part): ids for part, ids in zip(document.parts, ids_of_parts, strict=True)}
            for number, arrangement in enumerate(arrangements or [None]):
                sequence = arrange(document, arrangement) if arrangement else as_it_stands(document)
                if sequence is not None:
                    pieces = [(ids_of[id(part)] if id(part) in ids_of else prompt_ids[part.text], w) for part, w in sequence]
                    yield _token_document(f"{document.id}/{number}", document.source, pieces, tokenizer.vocabulary)


def _token_document(name: str, source: str, pieces: list[tuple[list[int], float]], vocabulary: Vocabulary) -> TokenDocument:
    ids = [vocabulary.special("<|begin|>"), *(i for piece, _ in pieces for i in piece), vocabulary.special("<|end|>")]
    weights = [0.0, *(weight for piece, weight in pieces for _ in piece), pieces[-1][1] if pieces else 0.0]
    return TokenDocument(name, source, np.array(ids), np.array(weights, dtype=np.float32))
