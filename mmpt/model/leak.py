"""Does a document in a pack see another? Measured, not assumed: recurrent layers, for one, know nothing of document borders."""

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.kernels.attention import Backend
from mmpt.model.forward import packed_logits
from mmpt.model.new_rows import table_size

LENGTHS = (5, 9, 1, 6)


@torch.no_grad()
def leak_check(
    model: PreTrainedModel | PeftModel, lengths: tuple[int, ...] = LENGTHS, seed: int = 0, backend: Backend = "auto"
) -> float:
    """Change every token of one document of a pack, one document after the other; the largest change of any other's logits.

    Exactly 0.0 where no document sees another. `backend`: of the attention, see `mmpt.kernels.attention`. `model` is put back
    into the mode (training or not) in which it came.
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
    largest = 0.0
    for first, last in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
        changed = ids.clone()
        changed[:, first:last] = (changed[:, first:last] + 1) % size
        difference = (packed_logits(model, changed, positions, borders, attention_backend=backend) - before).abs()
        difference[:, first:last] = 0.0
        largest = max(largest, difference.max().item())
    model.train(was_training)
    return largest


def require_no_leak(model: PreTrainedModel | PeftModel) -> None:
    """Raise `ConfigError` where `leak_check` finds that documents see each other, or the model takes no packed rows at all."""
    try:
        leak = leak_check(model)
    except (RuntimeError, TypeError) as problem:
        raise ConfigError(f"backbone: it does not take packed rows ({str(problem).splitlines()[0]})") from None
    if leak != 0.0:
        raise ConfigError(f"backbone: documents in one pack see each other (logits change by {leak:.3g})")
