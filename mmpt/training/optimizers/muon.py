"""Muon for the matrices of hidden layers, AdamW for all else."""

from typing import TYPE_CHECKING, ClassVar

from mmpt.training.optimizers import Shape, WithMoments

if TYPE_CHECKING:
    import torch
    from torch import nn


class Muon(WithMoments):
    """Momentum whose singular values are made about equal, for the matrices of hidden layers, at AdamW's rate; AdamW for the rest
    (Jordan et al. 2024, github.com/KellerJordan/Muon; scaled as by Liu et al. 2025, arXiv:2502.16982).

    Ours and not torch.optim.Muon, which takes the steps in bfloat16 on any device (so its figures differ by rounding, and a CPU
    without such instructions is ten times slower), refuses convolutions, does all matrices on every rank, and leaves the rest of
    the model to a second optimizer, of which an engine has no place. A test holds ours against it."""

    whole_matrices: ClassVar[bool] = True

    def build(self, groups: list[dict]) -> "torch.optim.Optimizer":
        from mmpt.training.optimizers._muon import MuonAdamW

        return MuonAdamW(groups, lr=self.learning_rate, betas=self.betas, eps=1e-8, fused=True)

    def apart(self, model: "nn.Module") -> set[int]:
        from mmpt.training.optimizers._muon import muon_parameters

        return muon_parameters(model)

    def state(self, shape: Shape, apart: bool) -> dict[str, tuple[int, ...]]:
        return {"exp_avg": tuple(shape)} if apart else super().state(shape, apart)
