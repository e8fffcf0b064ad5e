"""GLM-4-Voice's tokenizer with the names of THUDM/glm-4-voice-tokenizer, small and of random weights."""

import json

import torch
from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor

DIM, HEADS, LAYERS, CODES, MELS = 16, 2, 2, 32, 80
CONFIG = {
    "model_type": "whisper", "d_model": DIM, "encoder_layers": 4, "encoder_attention_heads": HEADS, "encoder_ffn_dim": 24,
    "decoder_layers": 1, "decoder_attention_heads": HEADS, "decoder_ffn_dim": 24, "num_mel_bins": MELS,
    "max_source_positions": 1500, "vocab_size": 100, "pad_token_id": 0,
    "pooling_kernel_size": 4, "pooling_type": "avg", "pooling_position": LAYERS, "quantize_vocab_size": CODES,
    "quantize_position": LAYERS, "quantize_causal_block_size": 40, "encoder_causal_convolution": True,
    "encoder_causal_attention": False, "quantize_causal_encoder": False, "quantize_ema_decay": 0.99,
}  # fmt: skip


def glm_tokenizer(folder, codebook=None, **changes):
    """With the names of the released weights, those behind the quantiser and of the text decoder among them."""
    folder.mkdir()
    config = {**CONFIG, **changes}
    draw = torch.Generator().manual_seed(0)

    def random(*shape, scale=0.4):
        return torch.randn(shape, generator=draw) * scale

    tensors = {
        "conv1.weight": random(DIM, MELS, 3, scale=0.2), "conv1.bias": random(DIM),
        "conv2.weight": random(DIM, DIM, 3), "conv2.bias": random(DIM),
        "embed_positions.weight": random(1500, DIM, scale=1.0), "embed_positions2.weight": random(375, DIM),
        "codebook.weight": random(CODES, DIM, scale=1.0), "layer_norm.weight": random(DIM), "layer_norm.bias": random(DIM),
        "ema_count": torch.ones(CODES), "ema_weight": random(CODES, DIM),
    }  # fmt: skip
    if codebook is not None:
        tensors["codebook.weight"][: len(codebook)] = codebook
    for layer in range(config["encoder_layers"]):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            tensors[f"layers.{layer}.self_attn.{name}.weight"] = random(DIM, DIM)
            if name != "k_proj":
                tensors[f"layers.{layer}.self_attn.{name}.bias"] = random(DIM)
        for name, shape in (("fc1", (24, DIM)), ("fc2", (DIM, 24))):
            tensors[f"layers.{layer}.{name}.weight"], tensors[f"layers.{layer}.{name}.bias"] = random(*shape), random(shape[0])
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            tensors[f"layers.{layer}.{name}.weight"] = 1 + random(DIM)
            tensors[f"layers.{layer}.{name}.bias"] = random(DIM)
    named = {f"model.encoder.{name}": value for name, value in tensors.items()}
    save_file({**named, "model.decoder.layer_norm.weight": torch.ones(DIM)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    WhisperFeatureExtractor(feature_size=MELS).save_pretrained(folder)
    return folder
