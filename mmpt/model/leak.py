"""Does a document in a pack see another? Measured, not assumed: recurrent layers, for one, know nothing of document borders."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, cast

import torch
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.kernels.attention import Backend
from mmpt.model.forward import causal_lm, packed_logits, packed_rows_or_refused
from mmpt.model.hollow import first_layers
from mmpt.model.new_rows import table_size

LENGTHS = (5, 9, 1, 6)
TOLERANCE = 1e-5
"""Of the change in the changed document itself. Experts that multiply the tokens of a row in groups round by who else is there
(1e-7 each layer); the least leak of a fresh model of those that leak was 1.6e-4."""


class Leak(NamedTuple):
    """The largest change of a logit in documents other than the changed one: 0.0 where no document sees another, in a mixture of
    experts up to rounding; and in the changed document itself."""

    others: float
    own: float


def require_no_leak(model: PreTrainedModel | PeftModel) -> None:
    """Raise `ConfigError` where documents see each other by more than rounding, or the model takes no packed rows at all.

    Of a model whose weights are still in their files (see `mmpt.model.hollow`) the first layers stand for all.
    """
    with first_layers(model), packed_rows_or_refused():
        found = leak_check(model)
        if (
            not found.others <= TOLERANCE * found.own
        ):  # rounding that sends a token to another expert grows; in float64 it stays away
            with _in_float64(causal_lm(model)):
                found = leak_check(model)
    if not found.others <= TOLERANCE * found.own:
        raise ConfigError(f"backbone: documents in one pack see each other (logits change by {found.others:.3g})")


@contextmanager
def _in_float64(model: PreTrainedModel) -> Iterator[None]:
    """The same weights in float64, whence they come back to the bit; the grouped product of experts has no such kernel."""
    experts = getattr(model.config, "_experts_implementation", None)
    dtype = model.dtype
    try:
        model.double()  # pyright: ignore[reportArgumentType]  # torch's stub of a decorated method
        model.set_experts_implementation("eager")
        yield
    finally:
        nn.Module.to(model, dtype)
        model.set_experts_implementation(cast(str, experts))


@torch.no_grad()
def leak_check(
    model: PreTrainedModel | PeftModel, lengths: tuple[int, ...] = LENGTHS, seed: int = 0, backend: Backend = "auto"
) -> Leak:
    """Change every token of one document of a pack, one document after the other.

    `lengths` of the documents, in tokens. `backend`: of the attention, see `mmpt.kernels.attention`. `model` is put back into the
    mode (training or not) in which it came.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    size = table_size(model)
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, size, (1, sum(lengths)), generator=draw).to(device)
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0).to(device)
    borders = torch.tensor([0, *lengths]).cumsum(0)
    before = packed_logits(model, ids, positions, borders, attention_backend=backend)
    others, own = 0.0, 0.0
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        changed = ids.clone()
        changed[:, first:last] = (changed[:, first:last] + 1) % size
        difference = (packed_logits(model, changed, positions, borders, attention_backend=backend) - before).abs()
        own = max(own, difference[:, first:last].max().item())
        difference[:, first:last] = 0.0
        others = max(others, difference.max().item())
    model.train(was_training)
    return Leak(others, own)
