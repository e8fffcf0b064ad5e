"""The layers of SLTrain inside a transformers model."""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.kernels.sparse_linear import dense_weight, random_support, sparse_low_rank_linear
from mmpt.model.factors import FactoredLayer, plain_layers
from mmpt.model.linears.sltrain import Sltrain

PARTS = ("b", "a", "values", "starts", "columns")


class SparseLowRank(FactoredLayer):
    """[..., I] → [..., O] through scale · `b` [O, r] · `a` [r, I] and `values` [E] on a support in CSR form (int32)."""

    parts = PARTS

    def __init__(self, parts: dict[str, Tensor], settings: Sltrain, bias: nn.Parameter | None):
        super().__init__()
        self.settings, self.scale = settings, settings.alpha / settings.rank
        self.b, self.a, self.values = (nn.Parameter(parts[name]) for name in ("b", "a", "values"))
        self.starts: Tensor
        self.columns: Tensor
        self.register_buffer("starts", parts["starts"])
        self.register_buffer("columns", parts["columns"])
        self.bias = bias
        self.out_features, self.in_features = len(self.b), self.a.shape[1]

    def weight_of(self, parts: dict[str, Tensor]) -> Tensor:
        return dense_weight(**parts, scale=self.scale)

    def forward(self, x: Tensor) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.b.dtype
        x, b, a, values = (part.to(dtype) for part in (x, self.b, self.a, self.values))
        # Its products are told their types already; autocast knows nothing of an autograd function's inside.
        with torch.autocast(kind, enabled=False):
            found = sparse_low_rank_linear(x, b, a, self.starts, self.columns, values, self.scale)
        return found if self.bias is None else found + self.bias.to(dtype)


@torch.no_grad()
def replace_layers(model: PreTrainedModel, settings: Sltrain, seed: int) -> None:
    """Put new ones in place of every linear layer of the decoder's layers. They start as in the paper: B at 0, A as a linear
    layer does, S uniform within ± 1 / √I."""
    draw = torch.Generator().manual_seed(seed)
    for number, (name, plain) in enumerate(plain_layers(model)):
        rows, columns = plain.weight.shape
        dtype = plain.weight.dtype
        # Each layer has a support of its own: the same one everywhere would starve the same inputs.
        starts, places = random_support(rows, columns, settings.share, seed + number)
        bound = columns**-0.5
        parts = {
            "b": torch.zeros(rows, settings.rank, dtype=dtype),
            "a": ((2 * torch.rand(settings.rank, columns, generator=draw) - 1) * bound).to(dtype),
            "values": ((2 * torch.rand(len(places), generator=draw) - 1) * bound).to(dtype),
            "starts": starts,
            "columns": places,
        }
        model.set_submodule(name, SparseLowRank(parts, settings, plain.bias))


def restored_layers(model: PreTrainedModel, settings: Sltrain, tensors: dict[str, Tensor]) -> None:
    """As `LinearLayer.restore`."""
    for name, plain in plain_layers(model):
        parts = {part: tensors[f"{name}.{part}"] for part in PARTS}
        if (len(parts["b"]), parts["a"].shape[1]) != tuple(plain.weight.shape):
            raise ValueError(f"{name} is of another shape")
        parts |= {part: parts[part].to(plain.weight.dtype) for part in ("b", "a", "values")}
        model.set_submodule(name, SparseLowRank(parts, settings, plain.bias))
