"""GaLore for the matrices of hidden layers and AdamW for all else, as one optimizer, since an engine holds one."""

import torch
from torch import Tensor, nn

from mmpt.training.optimizers._apart import AdamWBeside


class GaLoreAdamW(AdamWBeside):
    """Groups whose `apart` is true learn by GaLore, the others by AdamW. A GaLore parameter's state is `step`, the moments
    `exp_avg` and `exp_avg_sq` along `basis` [shorter side, rank], whose columns are orthonormal."""

    def __init__(self, groups: list[dict], rank: int, every: int, scale: float, **options) -> None:
        super().__init__(groups, **options)
        self.rank, self.every, self.scale = rank, every, scale

    def _update(self, weight: nn.Parameter, group: dict) -> None:
        gradient = torch.zeros_like(weight) if weight.grad is None else weight.grad
        state, tall = self.state[weight], weight.shape[0] >= weight.shape[1]
        done = int(state["step"]) if state else 0
        if done % self.every == 0:
            basis = _strongest(gradient, min(self.rank, *weight.shape), tall)
            if state:
                state["basis"].copy_(basis)
            else:
                state["step"], state["basis"] = torch.zeros(()), basis
        low = gradient @ state["basis"] if tall else state["basis"].T @ gradient
        for name in ("exp_avg", "exp_avg_sq"):
            state.setdefault(name, torch.zeros_like(low))
        state["step"] += 1
        step, (beta, beta_square) = done + 1, group["betas"]
        average = state["exp_avg"].lerp_(low, 1 - beta)
        square = state["exp_avg_sq"].mul_(beta_square).addcmul_(low, low, value=1 - beta_square)
        size = (square / (1 - beta_square**step)).sqrt_().add_(group["eps"])
        update = average / (1 - beta**step) / size
        update = update @ state["basis"].T if tall else state["basis"] @ update
        weight.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * self.scale)


def galore_parameters(model: nn.Module) -> set[int]:
    """`id` of each weight that GaLore is for: of linear layers, but not of the output head, whose rows belong to a token each."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    return {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear) and module is not head}


def _strongest(gradient: Tensor, rank: int, tall: bool) -> Tensor:
    """The `rank` strongest directions of the shorter side of `gradient`, float32 [shorter side, rank]; the same on all ranks."""
    left, _, right = torch.linalg.svd(gradient.float(), full_matrices=False)
    basis = (right.T if tall else left)[:, :rank].contiguous()
    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        # Their gradients are the same, but a decomposition may differ in signs and last bits, and so would their weights.
        torch.distributed.broadcast(basis, 0)
    return basis
