"""Decoders of published sizes as transformers' configurations, by the names in recipes, and the ids of their text tokenizers."""

from training import QWEN3_600M

QWEN3_8B = {**QWEN3_600M, "hidden_size": 4096, "intermediate_size": 12_288, "num_hidden_layers": 36, "num_attention_heads": 32,
            "tie_word_embeddings": False}  # fmt: skip
LLAMA_8B = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": False,
            "max_position_embeddings": 131_072}  # fmt: skip
LLAMA_70B = {**LLAMA_8B, "hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80, "num_attention_heads": 64}
SMOLLM2 = {"model_type": "llama", "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
           "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64, "tie_word_embeddings": True,
           "max_position_embeddings": 8192}  # fmt: skip
SHAPES = {
    "Qwen/Qwen3-0.6B": (QWEN3_600M, 151_669),
    "Qwen/Qwen3-8B": (QWEN3_8B, 151_669),
    "meta-llama/Llama-3.1-8B": (LLAMA_8B, 128_256),
    "meta-llama/Llama-3.1-70B": (LLAMA_70B, 128_256),
    "runs/h100_x8/": (LLAMA_8B, 128_256),
    "HuggingFaceTB/SmolLM2-135M-Instruct": (SMOLLM2, 49_152),
}


def shape(path: str) -> tuple[dict, int]:
    """(configuration, text ids) of the backbone at `path`."""
    found = [known for name, known in SHAPES.items() if path.startswith(name)]
    if not found:
        raise KeyError(f"{path}: its shape is not in kernels/shapes.py")
    return found[0]
