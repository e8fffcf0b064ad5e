"""Document shards to token shards."""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pydantic
from rich.progress import Progress

from mmpt.chat import ChatConfig, ChatFormat
from mmpt.config import Schema
from mmpt.data.arrange import Arrangement
from mmpt.data.curate.portions import Portion, ShardSets
from mmpt.data.curate.steps import Step
from mmpt.data.engine.run import RunConfig
from mmpt.data.feature_rows import MediumRows, PictureRows, SpeechRows
from mmpt.data.lost import Lost
from mmpt.data.shards.tokens import MediumKind, TokenDocument
from mmpt.data.token_documents import BATCH, token_documents
from mmpt.data.transforms import TokenTransform, mark_ids
from mmpt.data.unit import Unit
from mmpt.document import Document
from mmpt.errors import DataError
from mmpt.vocabulary import Vocabulary

if TYPE_CHECKING:  # a specification is checked before torch is loaded
    from mmpt.tokenizers.multimodal import MultimodalTokenizer


class FeatureRows(Schema):
    """How many rows a connector gives for a medium: a number, or a section with more."""

    image: pydantic.PositiveInt | PictureRows | None = None
    """For a picture; null: pictures do not enter as features."""
    speech: pydantic.PositiveInt | SpeechRows | None = None
    """For an utterance; null: speech does not enter as features."""

    def by_kind(self) -> dict[MediumKind, MediumRows]:
        """Those of each kind that enters as features."""
        image = PictureRows(rows=self.image) if isinstance(self.image, int) else self.image
        speech = SpeechRows(rows=self.speech) if isinstance(self.speech, int) else self.speech
        found: dict[MediumKind, MediumRows | None] = {"image": image, "speech": speech}
        return {kind: rows for kind, rows in found.items() if rows is not None}


class Told(NamedTuple):
    """Of a shard: its name, for messages, and how many of its documents are `taken`."""

    shard: str
    taken: int


class ToTokens(Step):
    """Documents through the tokenizers, as one or several sequences each: one id space as in SEED-LLaMA (Ge et al. 2023,
    arXiv:2310.01218) and GLM-4-Voice (Zeng et al. 2024, arXiv:2412.02612)."""

    text: str
    """Folder or Hugging Face name of the text tokenizer."""
    speech: Path | None = None
    """Folder of the speech tokenizer, or Hugging Face name of a published one; null: there is none."""
    image: Path | None = None
    """Folder of the image tokenizer, or Hugging Face name of a published one; null: there is none."""
    arrangements: tuple[Arrangement, ...] = ()
    """The sequences to make of each document; empty: one, as it stands."""
    chat: ChatConfig | None = None
    """How the turns of conversations are marked, and what is learned of them; null: a conversation stops the run."""
    features: FeatureRows = FeatureRows()
    """A medium of a kind named here enters as features where it is not learned (its loss weight is 0) or has no tokenizer: the
    sample then keeps its bytes, and has a slot for each row."""
    transform: TokenTransform | None = None
    """What is made of the tokens of documents that are text alone; null: they stay as they are."""
    documents: int | None = None
    """How many documents are taken, from the first on; null: all."""

    def prepare(self, sets: ShardSets, run: RunConfig, progress: Progress | None, out: str) -> list[Unit[Portion]]:
        """The shards that are needed, each with how many of its documents."""
        left, found = self.documents, []
        for unit in sets.units():
            shard = unit.what.shard
            count = shard.documents if left is None else min(left, shard.documents)
            if count:
                found.append(Unit(Portion(unit.what.folder, shard, Told(shard.name, count)), unit.size))
                left = None if left is None else left - count
        return found

    def vocabulary(self) -> Vocabulary:
        """That of the tokenizers together."""
        return self._tokenizer().vocabulary

    def chat_format(self) -> ChatFormat | None:
        """The one that `chat` names, with the text tokenizer."""
        marker = self._tokenizer().chat
        return marker and marker.format

    def run(self, documents: Iterable[Document | Lost], told: Told | None = None) -> Iterator[TokenDocument | Lost]:
        """The sequences of the documents of a shard."""
        stream = islice(documents, told.taken if told else None)
        features = self.features.by_kind()
        while batch := list(islice(stream, BATCH)):
            yield from (one for one in batch if isinstance(one, Lost))
            together = [one for one in batch if isinstance(one, Document)]
            try:
                yield from self._sequences(together, features)
            except DataError:  # one of them: which?
                for document in together:
                    try:
                        yield from self._sequences([document], features)
                    except DataError as problem:
                        where = f"{told.shard}: {document.id}" if told else document.id
                        yield Lost(where, str(problem), document.id)

    def _sequences(self, documents: list[Document], features: dict[MediumKind, MediumRows]) -> list[TokenDocument]:
        tokenizer = self._tokenizer()
        found = list(token_documents(documents, tokenizer, self.arrangements, features))
        if self.transform is None:
            return found
        marks = mark_ids(self.transform.marks(), tokenizer.text.get_vocab())
        scores = {document.id: document.meta.get("scores", {}) for document in documents}
        return [
            made
            for one in found
            for made in self.transform.documents(one, tokenizer.vocabulary, marks, scores[one.id.rpartition("/")[0]])
        ]

    def _tokenizer(self) -> "MultimodalTokenizer":
        return _loaded(self.text, self.speech, self.image, self.chat.model_dump_json() if self.chat else None)


@lru_cache(maxsize=1)
def _loaded(text: str, speech: Path | None, image: Path | None, chat: str | None) -> "MultimodalTokenizer":
    """Loaded once in each process; `chat` as JSON."""
    from mmpt.tokenizers.multimodal import MultimodalTokenizer

    return MultimodalTokenizer.load(text, speech, image, ChatConfig.model_validate_json(chat) if chat else None)
