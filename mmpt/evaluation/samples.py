"""What a model writes, says and draws after a few prompts, kept as documents."""

from collections.abc import Sequence
from pathlib import Path

from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document, Part
from mmpt.errors import MmptError
from mmpt.inference.engine import write_all
from mmpt.inference.load import MultimodalModel
from mmpt.inference.settings import Settings

BUILT = {"samples": "mmpt-samples/1"}


def write_samples(model: MultimodalModel, prompts: Sequence[tuple[Sequence[Part], Settings]], out: Path) -> list[Document]:
    """Answer each prompt, all side by side; the document shards in `out` hold prompt and answer of each, and how many parts were
    asked. An answer that cannot be decoded is told as such: a model that has learned little may write what no tokenizer reads."""
    asked = model.prompts([parts for parts, _ in prompts])
    written = write_all(model.engine(), asked, [settings for _, settings in prompts])
    found = []
    for number, ((parts, _), ids) in enumerate(zip(prompts, written, strict=True)):
        meta = {"asked": len(parts), "tokens": len(ids)}
        try:
            answer = model.tokenizer.decode(ids)
        except MmptError as problem:
            answer, meta = (), {**meta, "problem": str(problem)}
        found.append(Document(str(number), "samples", (*parts, *answer), meta))
    with ShardWriter(out, built=BUILT) as writer:
        for document in found:
            writer.write(document)
    return found
