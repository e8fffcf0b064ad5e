"""Which dimension of which weight is what, in decoders of the names that Llama gave them."""

from transformers import PreTrainedConfig

KINDS = ("llama", "mistral", "qwen2", "qwen3", "smollm3")
INTO_NEURONS = ("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.gate_proj.bias", "mlp.up_proj.bias")
NEURONS_OUT = ("mlp.down_proj.weight",)
_READ = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "gate_proj.weight", "up_proj.weight", "lm_head.weight")
_WRITTEN = (
    "o_proj.weight",
    "o_proj.bias",
    "down_proj.weight",
    "down_proj.bias",
    "layernorm.weight",
    "model.norm.weight",
    "embed_tokens.weight",
)


def known(config: PreTrainedConfig) -> bool:
    """Whether the names here are those of a decoder's weights."""
    return config.model_type in KINDS


def reads_states(name: str) -> bool:
    """Whether the weight's last dimension is the width."""
    return name.endswith(_READ)


def writes_states(name: str) -> bool:
    """Whether the weight's first dimension is the width (of the embedding the last)."""
    return name.endswith(_WRITTEN)
