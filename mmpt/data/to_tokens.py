"""Document shards to token shards: each document through the tokenizers, as one or several arranged sequences."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np
from rich.progress import Progress

from mmpt.config import Schema
from mmpt.data.arrange import Arrangement, arrange, as_it_stands
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.document import Document, Text
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


def write_tokens(config: ToTokensConfig, shards: Sequence[Path], folder: Path, progress: Progress, title: str) -> int:
    """Encode every document of the shard sets `shards` into the token shards `folder`; returns how many sequences."""
    tokenizer = MultimodalTokenizer.load(config.text, config.speech, config.image)
    sets = [DocumentShards(path) for path in shards]
    total = min(sum(map(len, sets)), config.documents or sum(map(len, sets)))
    read = progress.track(islice(chain.from_iterable(sets), total), total=total, description=title)
    hashes = [entry["sha256"] for shard_set in sets for entry in shard_set.manifest["shards"]]
    built = {"spec": config.model_dump(mode="json"), "shards": hashes}
    count = 0
    with TokenShardWriter(folder, vocabulary=tokenizer.vocabulary, built=built) as writer:
        for document in token_documents(read, tokenizer, config.arrangements):
            writer.write(document)
            count += 1
    return count


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
