"""A published LLM that writes what codes say."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F


class PublishedWriter(nn.Module):
    """A frozen decoder LLM that writes a caption behind the codes of its image, which one linear map makes inputs of
    (BLIP-2, Li et al. 2023, arXiv:2301.12597, section 3.2).

    The LLM is loaded where a caption is first written, and is no submodule: whoever only encodes and decodes images needs none.
    """

    def __init__(self, load: Callable[[], nn.Module], code_dim: int):
        super().__init__()
        self._load, self._model = load, cast("list[Any]", [])  # in a list, so that it is no submodule
        # The other way round, since what is known before the LLM is loaded is the size of a code: [code_dim, width of the LLM].
        self.project = nn.LazyLinear(code_dim, bias=False)

    def prepare(self) -> None:
        """Load the LLM, whose width the map takes over. Raises `ConfigError` where it cannot be loaded or is none."""
        if not self._model:
            self._model.append(self._load())
        if isinstance(self.project.weight, nn.UninitializedParameter):
            rows = self._model[0].get_input_embeddings().weight
            self.project.initialize_parameters(rows[:1].float())
            with torch.no_grad():  # as large as the rows of words, of code vectors whose values are about 1
                self.project.weight.normal_(std=float(rows.float().std()) / self.project.out_features**0.5)

    def forward(self, vectors: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of tokens, `ids` [B, L] less one (0: padding), given `vectors` [B, queries, code_dim] and the tokens
        before."""
        self.prepare()
        model = self._model[0].to(vectors.device)
        told = ids != 0
        tokens = model.get_input_embeddings()(torch.where(told, ids - 1, 0)[:, :-1])
        inputs = torch.cat([F.linear(vectors, self.project.weight.t()).to(tokens.dtype), tokens], dim=1)
        seen = torch.cat([told.new_ones(vectors.shape[:2]), told[:, :-1]], dim=1).long()
        # The last L states tell of the tokens: that of the last code of the first.
        logits = model(inputs_embeds=inputs, attention_mask=seen, use_cache=False, logits_to_keep=ids.shape[1]).logits.float()
        targets = (ids - 1).masked_fill(~told, -100)
        total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        return total / told.sum().clamp_min(1)
