"""The balancing loss of a mixture of experts: how unevenly its routers spread tokens, so that no expert starves.

The definition is transformers' own (Switch Transformers, Fedus et al. 2021, arXiv:2101.03961, equation 4, over the logits of all
layers at once). It belongs to training where the model's configuration says `output_router_logits: true`, times its
`router_aux_loss_coef`.
"""

import sys
from collections.abc import Callable
from typing import Any, cast

from torch import Tensor
from transformers import PreTrainedModel

from mmpt.errors import ConfigError


def asks_for_balance(model: PreTrainedModel) -> bool:
    """Whether the balancing loss is part of this model's loss. Raises `ConfigError` where it is, but nothing computes it."""
    if not getattr(model.config.get_text_config(), "output_router_logits", False):
        return False
    wanted = ("router_aux_loss_coef", "num_experts", "num_experts_per_tok")
    if _definition(model) is None or any(not hasattr(model, name) for name in wanted):
        raise ConfigError(f"backbone: output_router_logits asks for a balancing loss, of which {type(model).__name__} has none")
    return True


def balance_loss(model: PreTrainedModel, router_logits: tuple[Tensor, ...]) -> Tensor:
    """The loss (a scalar, its coefficient in it) of the routers' logits [tokens, experts] of each layer."""
    whole = tuple(logits.float() for logits in router_logits)
    options: Any = model  # it has these: `asks_for_balance` has looked
    definition = cast(Callable[..., Tensor], _definition(model))
    return options.router_aux_loss_coef * definition(whole, options.num_experts, options.num_experts_per_tok)


def _definition(model: PreTrainedModel):
    return getattr(sys.modules[type(model).__module__], "load_balancing_loss_func", None)
