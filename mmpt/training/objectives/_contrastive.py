"""`contrastive` at work."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.model.forward import Decoded, Model, causal_lm
from mmpt.tokenizers.terms import Term
from mmpt.training.objectives.contrastive import Contrastive
from mmpt.vocabulary import Vocabulary


class Pool(nn.Module):
    """What a learned query finds in each group of vectors, in the common space."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, 1, bias=False)
        self.out = nn.Linear(width, out, bias=False)

    def forward(self, vectors: Tensor, groups: Tensor, count: int) -> Tensor:
        """Of length 1, [count, out], of `vectors` [n, width], of which each belongs to one of `groups` int64 [n]."""
        vectors = self.norm(vectors.to(self.norm.weight.dtype))
        scores = self.query(vectors).squeeze(1).float() / vectors.shape[1] ** 0.5
        highest = scores.new_full((count,), -torch.inf).scatter_reduce(0, groups, scores.detach(), "amax")
        shares = (scores - highest[groups]).exp()
        sums = shares.new_zeros(count).index_add(0, groups, shares)
        shares = (shares / sums[groups]).unsqueeze(1)
        pooled = shares.new_zeros(count, vectors.shape[1]).index_add(0, groups, shares * vectors.float())
        return F.normalize(self.out(pooled.to(vectors.dtype)).float(), dim=1)


class Pools(nn.Module):
    """Both sides."""

    def __init__(self, width: int, out: int):
        super().__init__()
        self.text, self.image = Pool(width, out), Pool(width, out)


class BuiltContrastive:
    asks: dict[str, Any] = {"output_hidden_states": True}

    def __init__(self, settings: Contrastive, model: Model, vocabulary: Vocabulary) -> None:
        text = causal_lm(model).config.get_text_config()
        if settings.layer > text.num_hidden_layers:
            raise ConfigError(f"objectives: contrastive: layer is {settings.layer}, expected 1 to {text.num_hidden_layers}")
        self.settings, self.vocabulary = settings, vocabulary
        self.head = Pools(text.hidden_size, settings.width)

    def prepare(self, batch: PackedBatch) -> tuple[PackedBatch, dict[str, Tensor]]:
        """Marks: the words of documents with pictures, the number of the pair of each token, and the pairs."""
        tokens = len(batch.input_ids[0])
        documents = torch.bucketize(torch.arange(tokens), batch.cu_seqlens[1:-1].long(), right=True)
        places = batch.features["image"].places if "image" in batch.features else torch.zeros(0, dtype=torch.int64)
        shown = torch.zeros(len(batch.cu_seqlens) - 1, dtype=torch.bool).index_fill(0, documents[places], True)
        text = batch.input_ids[0] < self.vocabulary.text_size
        told = torch.zeros_like(shown).index_fill(0, documents[text], True)
        pairs = shown & told
        pairs &= pairs.sum() > 1  # one alone has nothing to be told from
        count = int(pairs.sum())
        # Behind the last pair one more, of all that is in none.
        number = torch.where(pairs, pairs.long().cumsum(0) - 1, count)[documents]
        words = torch.nonzero(text & (number < count)).squeeze(1)
        marks = {"contrastive": words, "contrastive_numbers": number, "contrastive_pairs": torch.arange(count)}
        return replace(batch, marks={**batch.marks, **marks}), {"contrastive": torch.tensor(float(count), dtype=torch.float64)}

    def terms(self, model: Model, batch: PackedBatch, decoded: Decoded, progress: float) -> dict[str, Term]:
        words, numbers = batch.marks["contrastive"], batch.marks["contrastive_numbers"]
        own, states = batch.marks["contrastive_pairs"], decoded.layers[self.settings.layer]
        if not len(own):  # under ZeRO 3 every rank runs the same modules
            blank = states[:1], numbers.new_zeros(1)
            nothing = 0.0 * (self.head.text(*blank, 1).sum() + self.head.image(*blank, 1).sum())
            return {"contrastive": Term(nothing, nothing.new_zeros(()), self.settings.weight)}
        seen = () if decoded.media is None else decoded.media.memories.get("image", ())
        if [len(one.places) for one in seen] != [len(batch.features["image"].places)]:
            raise ConfigError("objectives: contrastive: features.image.enters: expected cross, without whole_as_rows")
        ((memory, places),) = seen
        text = self.head.text(states[words], numbers[words], len(own))
        owners = numbers[places].repeat_interleave(memory.rows.shape[1])
        image = self.head.image(memory.rows.flatten(0, 1), owners, len(own) + 1)[:-1]
        logits = text @ image.T / self.settings.temperature
        total = (F.cross_entropy(logits, own, reduction="sum") + F.cross_entropy(logits.T, own, reduction="sum")) / 2
        return {"contrastive": Term(total, total.new_full((), float(len(own))), self.settings.weight)}
