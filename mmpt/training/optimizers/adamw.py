"""AdamW, torch's."""

from typing import TYPE_CHECKING

from mmpt.training.optimizers import WithMoments

if TYPE_CHECKING:
    import torch


class AdamW(WithMoments):
    """Adam with decoupled weight decay, torch's fused one (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    def build(self, groups: list[dict]) -> "torch.optim.AdamW":
        import torch

        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, eps=1e-8, fused=True)
