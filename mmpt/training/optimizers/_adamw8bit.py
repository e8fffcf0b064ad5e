"""AdamW with moments of eight bits for large weights and AdamW for all else, as one optimizer, since an engine holds one."""

import torch
from torch import nn

from mmpt.data.extra import need
from mmpt.training.optimizers._apart import AdamWBeside
from mmpt.training.optimizers.adamw8bit import BLOCK, LEAST


class EightBitAdamW(AdamWBeside):
    """Groups whose `apart` is true keep moments of eight bits. The state of such a parameter is `step`, `exp_avg_codes` and
    `exp_avg_sq_codes` (uint8, of its shape), and a scale for each 256 of them in turn (float32)."""

    def __init__(self, groups: list[dict], **options) -> None:
        super().__init__(groups, **options)
        functional = need("bitsandbytes.functional", "qlora")
        self._levels = [functional.create_dynamic_map(signed=True), functional.create_dynamic_map(signed=False)]

    def _update(self, weight: nn.Parameter, group: dict) -> None:
        if weight.grad is None:
            return
        state, device = self.state[weight], weight.device
        if not state:
            state["step"] = torch.zeros(())
            for name in ("exp_avg", "exp_avg_sq"):
                state[f"{name}_codes"] = torch.zeros_like(weight, dtype=torch.uint8)
                state[f"{name}_scales"] = torch.zeros(-(-weight.numel() // BLOCK), device=device)
        state["step"] += 1
        self._levels = [one.to(device) for one in self._levels]
        need("bitsandbytes.functional", "qlora").optimizer_update_8bit_blockwise(
            "adam", weight.grad, weight, state["exp_avg_codes"], state["exp_avg_sq_codes"], *group["betas"], 0.0, 0.0,
            group["eps"], int(state["step"]), group["lr"], *self._levels, state["exp_avg_scales"], state["exp_avg_sq_scales"],
            group["weight_decay"],
        )  # fmt: skip


def large_parameters(model: nn.Module) -> set[int]:
    """`id` of each weight of 4,096 numbers or more that is no table of embeddings."""
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    head = getattr(model, "get_output_embeddings", lambda: None)()
    tables |= {id(weight) for weight in head.parameters()} if isinstance(head, nn.Module) else set()
    return {id(one) for one in model.parameters() if one.numel() >= LEAST and id(one) not in tables}
