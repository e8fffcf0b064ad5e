"""How far a model's next tokens are from another's, straight from hidden states, without a matrix of all logits of either.

For each token, T² · KL(teacher ‖ student) over the whole vocabulary, both softened by the temperature T (Hinton et al. 2015,
arXiv:1503.02531: by T² the gradient keeps its size at any temperature); the loss is Σ weight · that. Tokens go through in chunks:
the logits of both sides exist for one at a time, and the student's are turned into their own gradient there and then, as in
`mmpt.kernels.cross_entropy`.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}  # of the logits of one side, in float32
MIN_CHUNK_TOKENS = 32


def weighted_divergence(
    student: Tensor,
    student_tables: Sequence[Tensor],
    teacher: Tensor,
    teacher_tables: Sequence[Tensor],
    weights: Tensor,
    temperature: float = 1.0,
    chunk: int | None = None,
) -> Tensor:
    """Σ weights · T² · KL, a float32 scalar (float64 where `student` is), differentiable in `student` and its tables alone.

    student [N, H], teacher [N, H'] floating, whose dtypes their matrix products take; tables [V₁, H], [V₂, H], … whose rows
    count on, as many on both sides; weights [N]. `chunk` tokens at a time; None: as many as keep their logits small. Raises
    `ValueError` where the shapes do not agree.
    """
    rows = [sum(map(len, tables)) for tables in (student_tables, teacher_tables)]
    if rows[0] != rows[1] or not len(student) == len(teacher) == len(weights):
        raise ValueError(
            f"{len(student)} states of the student, {len(teacher)} of the teacher, {len(weights)} weights, and {rows[0]} and "
            f"{rows[1]} rows: expected as many of each"
        )
    if chunk is None:
        chunk = max(MIN_CHUNK_TOKENS, CHUNK_BYTES.get(student.device.type, CHUNK_BYTES["cpu"]) // (4 * rows[0]))
    with torch.autocast(student.device.type, enabled=False):  # the caller's dtypes decide
        frozen = [teacher.detach(), [table.detach().to(teacher.dtype) for table in teacher_tables]]
        return cast(Tensor, _WeightedDivergence.apply(student, weights, temperature, chunk, *frozen, *student_tables))


def reference(
    student: Tensor,
    student_tables: Sequence[Tensor],
    teacher: Tensor,
    teacher_tables: Sequence[Tensor],
    weights: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """The same over whole matrices of logits."""
    own, known = (
        (states @ torch.cat(list(tables)).T.to(states.dtype) / temperature).log_softmax(dim=1)
        for states, tables in ((student, student_tables), (teacher.detach(), teacher_tables))
    )
    return temperature**2 * (weights * (known.exp() * (known - own)).sum(dim=1)).sum()


class _WeightedDivergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student: Tensor, weights: Tensor, temperature: float, chunk: int, teacher, known, *tables: Tensor):
        precise = torch.promote_types(student.dtype, torch.float32)
        needs_states, learned = ctx.needs_input_grad[0], ctx.needs_input_grad[6:]
        heads = [table.to(student.dtype) for table in tables]
        grads = [torch.zeros_like(t, dtype=precise) if needed else None for t, needed in zip(tables, learned, strict=True)]
        slopes = torch.zeros_like(student) if needs_states else None
        total = student.new_zeros((), dtype=precise)
        for start in range(0, len(student), chunk):
            part = slice(start, start + chunk)
            rows, scale = student[part], weights[part].to(precise)
            own, wanted = (_log_shares(r, t, temperature, precise) for r, t in ((rows, heads), (teacher[part], known)))
            shares = wanted.exp()
            total += temperature**2 * torch.dot(scale, (wanted.sub_(own).mul_(shares)).sum(dim=1))
            if slopes is None and not any(learned):
                continue
            # d T² KL / d logits = T · (student − teacher)
            slope = own.exp_().sub_(shares).mul_(temperature * scale.unsqueeze(1)).to(student.dtype)
            pieces = slope.split([len(head) for head in heads], dim=1)
            for piece, head, grad in zip(pieces, heads, grads, strict=True):
                if slopes is not None:
                    slopes[part] += piece @ head
                if grad is not None:
                    grad += piece.T @ rows
        ctx.gradients, ctx.dtypes = [slopes, *grads], [table.dtype for table in tables]
        return total

    # torch's stub names no gradients: it hands them over by position, one for each output.
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("weighted_divergence: a second backward pass")
        # In place: a copy would be as large as the head.
        slopes, *grads = (None if one is None else one.mul_(grad) for one in gradients)
        return slopes, *[None] * 5, *(None if g is None else g.to(dtype) for g, dtype in zip(grads, ctx.dtypes, strict=True))


def _log_shares(rows: Tensor, heads: Sequence[Tensor], temperature: float, precise: torch.dtype) -> Tensor:
    """Logarithms of the softened probabilities [n, V]."""
    logits = torch.cat([rows @ head.T for head in heads], dim=1).to(precise)
    return torch.log_softmax(logits if temperature == 1.0 else logits / temperature, dim=1)


def first_rows(tables: Sequence[Tensor], size: int) -> list[Tensor]:
    """The first `size` rows of tables whose rows count on."""
    found = []
    for table in tables:
        if size > 0:
            found.append(table[:size])
        size -= len(table)
    return found
