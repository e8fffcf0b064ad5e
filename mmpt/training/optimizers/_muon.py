"""Muon for the matrices of hidden layers and AdamW for all else, as one optimizer, since an engine holds one.

Muon (Jordan et al. 2024, github.com/KellerJordan/Muon) takes the momentum of a matrix, makes its singular values about equal by
five Newton–Schulz steps, and goes that way. The update is scaled to the root mean square of AdamW's (Liu et al. 2025,
arXiv:2502.16982, section 2.2), so learning rate and weight decay mean the same for both.

torch.optim.Muon computes the same, but in bfloat16 wherever it is, which a CPU without instructions for it emulates ten times
slower than float32, on every rank anew, and without AdamW for the rest.
"""

import math

import torch
from torch import Tensor, nn

from mmpt.kernels.device import multiplies_bfloat16
from mmpt.training.optimizers._apart import AdamWBeside

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
ELONGATED = 1.5
"""Columns for each row from which the steps cost less on the square of the rows' products with each other."""
MOMENTUM = 0.95
RMS = 0.2
"""Root mean square of an update of AdamW, about, in units of the learning rate."""


class MuonAdamW(AdamWBeside):
    """Groups whose `apart` is true learn by Muon, the others by AdamW. A Muon parameter's state is `step` and `exp_avg`.

    Ranks that hold the same gradients (ZeRO stage 0) share the matrices out among themselves.
    """

    @torch.no_grad()
    def step(self, closure=None):
        """One update of every parameter; all ranks take part."""
        loss, groups = self.rest(closure), self.param_groups
        chosen = [(group, parameter) for group in groups if group["apart"] for parameter in group["params"]]
        directions = [self._momentum(parameter) for _, parameter in chosen]
        for (group, parameter), update in zip(chosen, _shared(directions), strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(update.view_as(parameter), alpha=-group["lr"] * RMS * math.sqrt(max(update.shape)))
        return loss

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        """Where Nesterov's momentum goes, as a matrix."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        state["step"] += 1
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        average = state["exp_avg"].lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(average, MOMENTUM).flatten(1)


def muon_parameters(model: nn.Module) -> set[int]:
    """`id` of each weight that Muon is for: of linear layers and ungrouped convolutions, but not of the output head, whose rows
    belong to one token each, as those of embeddings do."""
    head = getattr(model, "get_output_embeddings", lambda: None)()
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, layers) and module is not head and getattr(module, "groups", 1) == 1
    }


def orthogonalized(matrix: Tensor) -> Tensor:
    """`matrix` [rows, columns] with all singular values near 1 (between 0.7 and 1.2), in float32.

    In bfloat16 inside where the device multiplies that natively, else in float32.
    """
    # The smaller side first: the products of the rows are then the smaller square.
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(torch.bfloat16 if multiplies_bfloat16(matrix.device) else torch.float32)
    # The steps converge for singular values up to √3 or so; by the Frobenius norm all are at most 1.
    x = x / x.norm().clamp_min(1e-7)
    # The square of small singular values is lost in bfloat16.
    elongated = x.dtype == torch.float32 and x.shape[1] >= ELONGATED * x.shape[0]
    x = _polynomial(x) @ x if elongated else _newton_schulz(x)
    return (x.T if tall else x).float()


def _newton_schulz(x: Tensor) -> Tensor:
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _polynomial(x: Tensor) -> Tensor:
    """P [rows, rows], for which P x is what the steps make of `x`: each multiplies by a polynomial of the `gram` it finds."""
    a, b, c = COEFFICIENTS
    gram = x @ x.T
    product = torch.empty(0)
    for left in reversed(range(STEPS)):
        factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal().add_(a)
        product = factor @ product if product.numel() else factor
        if left:  # the product of the rows of the next x, which itself is never made: (F x)(F x)ᵀ = F x xᵀ F, F symmetric
            gram = factor @ gram @ factor
    return product


def _shared(matrices: list[Tensor]) -> list[Tensor]:
    """Each of `matrices`, the same on all ranks, orthogonalized by one of them."""
    distributed = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
    if not distributed:
        return [orthogonalized(matrix) for matrix in matrices]
    rank, ranks = torch.distributed.get_rank(), torch.distributed.get_world_size()
    # The largest first, each to the rank that has least to do, so that all are done at about the same time.
    work, owner = [0.0] * ranks, {}
    for place in sorted(range(len(matrices)), key=lambda i: (-_cost(matrices[i]), i)):
        owner[place] = min(range(ranks), key=work.__getitem__)
        work[owner[place]] += _cost(matrices[place])
    found = [
        orthogonalized(matrix) if owner[place] == rank else torch.zeros_like(matrix, dtype=torch.float32)
        for place, matrix in enumerate(matrices)
    ]
    # One collective for all of them; each rank gives zeros for what others did.
    flat = torch.cat([one.flatten() for one in found])
    torch.distributed.all_reduce(flat)  # x + 0: to the bit what the owner found
    return [part.view_as(matrix) for part, matrix in zip(flat.split([m.numel() for m in matrices]), matrices, strict=True)]


def _cost(matrix: Tensor) -> float:
    small, large = sorted(matrix.shape)
    return float(small * small * (4 * large + 34 * small if large >= ELONGATED * small else 20 * large + 10 * small))
