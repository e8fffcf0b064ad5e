"""A model as it is used, whatever it was doing before."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside and no gradient; afterwards each part is in the mode in which it was."""
    learning = [module for module in model.modules() if module.training]
    if learning:  # switching all parts of one that is used already takes as long as a short sound
        model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in learning:
            module.training = True
