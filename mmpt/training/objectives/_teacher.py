"""A teacher: a model that is read and never learns. It is no part of the module that is trained: no engine sees its weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.model.backbone import load_backbone
from mmpt.model.checkpoints import find_model
from mmpt.model.forward import Decoded, check_head, decode, head_tables, target_weights
from mmpt.model.loading import load_model
from mmpt.tokenizers.terms import Term
from mmpt.training.agreement import backbone_problems, backbone_vocabulary
from mmpt.training.objectives._taught import Taught
from mmpt.vocabulary import MODALITIES, Vocabulary, check_same

Model = PreTrainedModel | PeftModel


class Teacher:
    """The model at `path` on `device`, in bfloat16 on a GPU. `size`: the ids that it knows, from 0 on.

    Raises `ConfigError` where it cannot be loaded, `VocabularyError` where its ids mean something else than those of the data.
    """

    def __init__(self, path: str, vocabulary: Vocabulary, device: torch.device) -> None:
        try:
            model, whole = _loaded(path, vocabulary, torch.bfloat16 if device.type == "cuda" else torch.float32)
        except ConfigError as problem:
            raise ConfigError(f"objectives: teacher: {problem}") from None
        check_head(model)
        nn.Module.to(model, device)  # transformers wraps its own, and types lose their way in it
        self.model: Model = model.eval().requires_grad_(False)
        self.vocabulary, self.size = vocabulary, vocabulary.size if whole else vocabulary.text_size
        self.begin = None if whole else _begin(model, path)

    def readable(self, batch: PackedBatch) -> Tensor:
        """Bool [T]: the tokens up to which it knows all of their document, and of which the next is one that it knows."""
        ids, edges = batch.input_ids[0], batch.cu_seqlens.long()
        unknown = (ids >= self.size) & ~self._begins(ids) | (ids == self.vocabulary.special("<|feature|>"))
        before = torch.cat([torch.zeros(1, dtype=torch.long), unknown.long().cumsum(0)])
        started = before[edges[:-1]].repeat_interleave(edges.diff())
        return (before[1:] == started) & (batch.targets[0] < self.size)

    @torch.no_grad()
    def decode(self, batch: PackedBatch, **options: Any) -> Decoded:
        """Its pass over a pack. Ids that it does not know are others for it, and what it gives behind them is of no use."""
        ids = batch.input_ids
        if self.begin is not None:
            ids = torch.where(self._begins(ids), self.begin, torch.where(ids >= self.size, 0, ids))
        return decode(self.model, replace(batch, input_ids=ids), **options)

    def tables(self) -> tuple[Tensor, ...]:
        """Its output head."""
        return head_tables(self.model)

    def _begins(self, ids: Tensor) -> Tensor:
        return ids == self.vocabulary.special("<|begin|>")


class BuiltTaught:
    """What all objectives with a teacher do beforehand: find out where it can teach. `learn` gives the rest."""

    asks: dict[str, Any] = {}

    def __init__(self, settings: Taught, vocabulary: Vocabulary, device: torch.device) -> None:
        self.settings, self.vocabulary = settings, vocabulary
        self.teacher: Teacher | None = Teacher(settings.teacher, vocabulary, device)
        self.host = torch.tensor([getattr(settings.weights, name) for name in MODALITIES])
        self.device = self.host.to(device)

    def prepare(self, batch: PackedBatch) -> tuple[PackedBatch, dict[str, Tensor]]:
        if self.teacher is None:
            return batch, {}
        weights = target_weights(batch, self.host, self.vocabulary)[0] * self.teacher.readable(batch)
        marks = {**batch.marks, self.settings.kind: torch.nonzero(weights != 0).squeeze(1)}
        return replace(batch, marks=marks), {self.settings.kind: weights.sum(dtype=torch.float64)}

    def terms(self, model: Model, batch: PackedBatch, decoded: Decoded, progress: float) -> dict[str, Term]:
        weight = self.settings.factor(progress)
        if not weight or self.teacher is None:
            self.teacher = None  # progress never turns back
            return {}
        kept = batch.marks[self.settings.kind]
        weights = target_weights(batch, self.device, self.vocabulary)[0][kept]
        total = self.learn(self.teacher, model, batch, decoded, kept, weights)
        return {self.settings.kind: Term(total, weights.sum(), weight)}

    def learn(
        self, teacher: Teacher, model: Model, batch: PackedBatch, decoded: Decoded, kept: Tensor, weights: Tensor
    ) -> Tensor:
        """Σ weights · what is learned at the tokens `kept` [n] of the pack."""
        raise NotImplementedError


def _loaded(path: str, vocabulary: Vocabulary, dtype: torch.dtype) -> tuple[Model, bool]:
    """(the model, whether it knows the whole vocabulary of the data)."""
    found, data = find_model(Path(path)), "the data"
    if (found / "backbone").is_dir():
        model, known = load_model(found, dtype)
        check_same(vocabulary, data, known, str(found))
        return model, True
    if problems := backbone_problems(path, vocabulary, data):
        raise ConfigError("; ".join(problems))
    return load_backbone(path, dtype), backbone_vocabulary(path) is not None


def _begin(model: Model, path: str) -> int:
    """What a model of text reads where a document begins."""
    settings: Any = model.config.get_text_config()
    for found in (settings.bos_token_id, settings.eos_token_id):
        if isinstance(found, list):
            found = next(iter(found), None)
        if found is not None:
            return int(found)
    raise ConfigError(f"{path}: its config.json has neither bos_token_id nor eos_token_id, with which documents begin")
