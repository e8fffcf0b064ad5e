"""ZeRO 3: weights cut up among the ranks one at a time, each as soon as it has its values, so that no rank ever has them all."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from mmpt.model.hollow import fill_one


class _OneByOne(nn.Module):
    """Has the parameters of `module`, each with its values when its turn comes. The turn before is over by then."""

    def __init__(self, module: nn.Module, dtype: torch.dtype | None) -> None:
        super().__init__()
        self._turns = lambda: self._filled(list(module.parameters()), dtype)

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self._turns()

    @staticmethod
    def _filled(every: list[nn.Parameter], dtype: torch.dtype | None) -> Iterator[nn.Parameter]:
        for parameter in every:
            fill_one(parameter)
            if dtype is not None and parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)
            yield parameter


def partition(module: nn.Module, options: dict[str, Any], dtype: torch.dtype | None = None) -> None:
    """Leave of each parameter of `module`, hollow or not, this rank's part on its device; every rank calls it.

    `options`: DeepSpeed's. `dtype`: what weights of a floating type become first; None: they stay.
    """
    import deepspeed

    deepspeed.zero.Init(module=_OneByOne(module, dtype), config_dict_or_path=options, dtype=dtype or torch.float32)


def gathered(module: nn.Module) -> AbstractContextManager[object]:
    """While inside, the weights of `module` that ZeRO 3 has cut up are whole on every rank, which all come here; changes to them
    are lost."""
    from deepspeed.runtime.zero.partition_parameters import GatheredParameters

    parts = [parameter for parameter in module.parameters() if hasattr(parameter, "ds_id")]
    return GatheredParameters(parts) if parts else nullcontext()
