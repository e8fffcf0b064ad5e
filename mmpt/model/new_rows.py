"""The rows of new tokens as tables of their own, beside the frozen ones of the text vocabulary.

Only the new rows then have a gradient and optimizer state: of 150,000 rows of text none. The text tables keep their names
(`….embed_tokens.weight`, `lm_head.weight`), the new ones stand beside them (`….embed_tokens.new`, `lm_head.new`).
"""

from typing import cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmpt.errors import CheckpointError, ConfigError
from mmpt.kernels.choose import Kernel
from mmpt.kernels.embedding import two_table_embedding
from mmpt.model.hollow import SOURCE, cut_rows, is_hollow, set_rows


class TwoTableEmbedding(nn.Module):
    """Rows [..., H] of ids: of the frozen `weight` [V, H] below V, of `new` [M, H] from V on; times `scale` (as in Gemma)."""

    def __init__(self, weight: nn.Parameter, new: nn.Parameter, plain: nn.Embedding, kernel: Kernel = "auto"):
        super().__init__()
        self.weight, self.new = weight, new
        self.kernel: Kernel = kernel
        self.scale = float(getattr(plain, "embed_scale", 1.0))

    def forward(self, ids: Tensor) -> Tensor:
        found = two_table_embedding(ids, self.weight, self.new, self.kernel)
        return found if self.scale == 1.0 else found * self.scale


class TwoTableHead(nn.Module):
    """Logits [..., V + M] of hidden states [..., H]."""

    def __init__(self, weight: nn.Parameter, new: nn.Parameter):
        super().__init__()
        self.weight, self.new = weight, new

    def forward(self, hidden: Tensor) -> Tensor:
        return torch.cat([F.linear(hidden, self.weight), F.linear(hidden, self.new)], dim=-1)


def split_rows(model: PreTrainedModel, text_rows: int, kernel: Kernel = "auto") -> list[nn.Parameter]:
    """Take the rows from `text_rows` on out of the embedding and the head of `model`, in place; the new tables, which learn.

    The first `text_rows` are frozen. Where the tables were tied, both pairs stay so. Raises `ConfigError` where embedding or head
    is no plain table.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, nn.Embedding) or type(head) is not nn.Linear or head.bias is not None:
        raise ConfigError(f"new rows: {type(embedding).__name__} and {type(head).__name__}, expected plain tables without bias")
    if not 0 < text_rows < len(embedding.weight):
        raise ConfigError(f"new rows: {text_rows} of {len(embedding.weight)} rows are text, expected some and not all")
    tied = head.weight is embedding.weight
    old, new = _split(cast(nn.Parameter, embedding.weight), text_rows)
    head_old, head_new = (old, new) if tied else _split(cast(nn.Parameter, head.weight), text_rows)
    embedding.weight = head.weight = nn.Parameter(new.new_empty(0), requires_grad=False)  # nobody needs the old table any more
    model.set_input_embeddings(TwoTableEmbedding(old, new, embedding, kernel))
    model.set_output_embeddings(TwoTableHead(head_old, head_new))
    return [new] if tied else [new, head_new]


def new_tables(model: PreTrainedModel | PeftModel) -> dict[str, nn.Parameter]:
    """The tables of new rows: `embedding`, and `head` where it is another one; none where the model was not split."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not isinstance(embedding, TwoTableEmbedding) or not isinstance(head, TwoTableHead):
        return {}
    return {"embedding": embedding.new} | ({} if head.new is embedding.new else {"head": head.new})


@torch.no_grad()
def fill_rows(model: PreTrainedModel, tensors: dict[str, Tensor], text_rows: int) -> None:
    """Put saved tables of new rows behind the first `text_rows` of a plain model, which gets as many rows as that needs.

    Raises `CheckpointError` where they do not fit it.
    """
    embedding, head = cast(nn.Embedding, model.get_input_embeddings()), cast(nn.Linear, model.get_output_embeddings())
    wanted = ("embedding",) if head.weight is embedding.weight else ("embedding", "head")
    width = embedding.weight.shape[1]
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if (
        set(shapes) != set(wanted)
        or len({shape[0] for shape in shapes.values()}) > 1
        or any(s[1:] != (width,) for s in shapes.values())
    ):
        raise CheckpointError(f"new rows {shapes}: expected {', '.join(wanted)}, {width} wide")
    if is_hollow(model):
        set_rows(model, text_rows, {name: tensor.to(embedding.weight.dtype) for name, tensor in tensors.items()})
        return
    model.resize_token_embeddings(text_rows + len(tensors["embedding"]), mean_resizing=False)
    # Resizing has put new modules in the place of both.
    embedding, head = cast(nn.Embedding, model.get_input_embeddings()), cast(nn.Linear, model.get_output_embeddings())
    for name, table in (("embedding", embedding), ("head", head)):
        if name in tensors:
            table.weight[text_rows:] = tensors[name].to(table.weight)


def table_size(model: PreTrainedModel | PeftModel) -> int:
    """How many ids the embedding has rows for."""
    embedding = cast(nn.Embedding | TwoTableEmbedding, model.get_input_embeddings())
    return len(embedding.weight) + (len(embedding.new) if isinstance(embedding, TwoTableEmbedding) else 0)


def _split(weight: nn.Parameter, rows: int) -> tuple[nn.Parameter, nn.Parameter]:
    if hasattr(weight, SOURCE):
        return cut_rows(weight, rows)
    frozen = nn.Parameter(weight.detach()[:rows].clone(), requires_grad=False)
    return frozen, nn.Parameter(weight.detach()[rows:].clone())
