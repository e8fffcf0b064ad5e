"""A dense decoder as a mixture of experts."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

import pydantic

from mmpt.model.changes import Change

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

MIXTURES = {"qwen3": ("qwen3_moe", "num_experts"), "mistral": ("mixtral", "num_local_experts"),
            "llama": ("mixtral", "num_local_experts")}  # fmt: skip
"""Of dense decoders the mixture with the same layers otherwise, and what it calls the number of its experts."""


class Upcycle(Change):
    """Every feed-forward network becomes several equal experts behind a new router, so that the decoder computes what it did
    before (sparse upcycling, Komatsuzaki et al. 2022, arXiv:2212.05055). Of Qwen3, Mistral and Llama."""

    carries: ClassVar[tuple[str, ...]] = ("AquilaMoE (EfficientScale)",)

    experts: int = pydantic.Field(default=8, ge=2)
    """In each layer."""
    chosen: int = pydantic.Field(default=2, ge=1)
    """Experts that a token goes through; their weights sum to 1."""
    balance: float = pydantic.Field(default=0.001, ge=0)
    """Factor on the loss of uneven routers (objective `router_balance`); 0: they are not balanced."""

    @pydantic.model_validator(mode="after")
    def _enough(self) -> "Upcycle":
        if self.chosen > self.experts:
            raise ValueError(f"chosen: {self.chosen} of {self.experts} experts")
        return self

    def settings(self, config: "PreTrainedConfig") -> "PreTrainedConfig":
        from transformers import AutoConfig

        if config.model_type not in MIXTURES:
            raise self.refused(config, f"has no mixture of its kind, expected {', '.join(MIXTURES)}")
        if getattr(config, "mlp_bias", False) or (config.model_type != "qwen3" and getattr(config, "attention_bias", False)):
            raise self.refused(config, "has biases, which its mixture has not")
        if set(getattr(config, "layer_types", None) or ["full_attention"]) != {"full_attention"}:
            raise self.refused(config, "has windows in some layers, which its mixture has not")
        kind, experts = MIXTURES[config.model_type]
        known = AutoConfig.for_model(kind).to_dict().keys() - {"architectures", "model_type", "transformers_version"}
        content = {name: value for name, value in config.to_dict().items() if name in known}
        content |= {"head_dim": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads}
        content |= {experts: self.experts, "num_experts_per_tok": self.chosen, "router_aux_loss_coef": self.balance}
        content |= {"output_router_logits": self.balance > 0, "sliding_window": getattr(config, "sliding_window", None)}
        if kind == "qwen3_moe":
            content |= {"moe_intermediate_size": config.intermediate_size, "norm_topk_prob": True, "decoder_sparse_step": 1}
        return AutoConfig.for_model(kind, **content)

    def weights(
        self,
        model: "PreTrainedModel",
        settings: "PreTrainedConfig",
        generator: "torch.Generator",
        sequences: Iterable[Sequence[int]],
    ) -> "dict[str, Tensor]":
        import torch

        found = dict(model.state_dict())
        for layer in range(settings.num_hidden_layers):
            name = f"model.layers.{layer}.mlp"
            gate, up, down = (found.pop(f"{name}.{part}_proj.weight") for part in ("gate", "up", "down"))
            found[f"{name}.experts.gate_up_proj"] = torch.cat([gate, up]).expand(self.experts, -1, -1)
            found[f"{name}.experts.down_proj"] = down.expand(self.experts, -1, -1)
            router = torch.randn(self.experts, settings.hidden_size, generator=generator) * settings.initializer_range
            found[f"{name}.gate.weight"] = router.to(down.dtype)
        return found
