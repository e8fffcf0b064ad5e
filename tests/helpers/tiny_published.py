"""Published tokenizers at toy size: random weights of transformers' own classes, saved as a user would find them."""

import json
from pathlib import Path

import torch
from torch import nn
from transformers import (
    ChameleonVQVAE,
    ChameleonVQVAEConfig,
    DacConfig,
    DacModel,
    Emu3VQVAE,
    Emu3VQVAEConfig,
    JanusVQVAE,
    JanusVQVAEConfig,
    MimiConfig,
    MimiModel,
    PreTrainedModel,
    Wav2Vec2BertConfig,
    Xcodec2Config,
    Xcodec2Model,
)

PICTURES = {"base_channels": 32, "channel_multiplier": [1, 2], "num_res_blocks": 1, "latent_channels": 32, "double_latent": False}


def saved(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """In eval mode, and in `folder`."""
    model.eval().save_pretrained(folder)
    return model


def mimi(folder: Path, **changes) -> MimiModel:
    """800 Hz, 64 samples a frame, 12.5 frames a second, four codebooks of 16."""
    torch.manual_seed(0)
    shape = {
        "sampling_rate": 800, "hidden_size": 16, "num_filters": 4, "upsampling_ratios": [4, 2, 2, 2], "codebook_size": 16,
        "codebook_dim": 8, "vector_quantization_hidden_dimension": 8, "num_quantizers": 4, "num_hidden_layers": 2,
        "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "sliding_window": 8,
        "upsample_groups": 16, **changes,
    }  # fmt: skip
    model = MimiModel(MimiConfig(**shape))
    for name, value in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith("embed_sum"):  # codebooks are zero, and layers nearly off, where nothing is trained
            value.data.normal_()
        elif name.endswith("layer_scale.scale"):
            value.data.fill_(0.7)
    return saved(model, folder)


def dac(folder: Path) -> DacModel:
    """Ten samples a frame, three codebooks of 16; a stride is odd, as one of the released ones'."""
    torch.manual_seed(0)
    shape = {"encoder_hidden_size": 4, "decoder_hidden_size": 16, "codebook_dim": 4, "sampling_rate": 100}
    model = DacModel(DacConfig(**shape, downsampling_ratios=[2, 5], n_codebooks=3, codebook_size=16))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2)
    return saved(model, folder)


def x_codec2(folder: Path) -> Xcodec2Model:
    """As released, a code for 320 samples at 16 kHz, of 64."""
    torch.manual_seed(0)
    semantic = Wav2Vec2BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, feature_projection_input_dim=160,
        output_hidden_size=16, conv_depthwise_kernel_size=3,
    )  # fmt: skip
    shape = {
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2,
        "head_dim": 16, "encoder_hidden_size": 4, "quantization_levels": [4, 4, 4],
    }  # fmt: skip
    model = Xcodec2Model(Xcodec2Config(**shape, quantization_dim=48, semantic_model_config=semantic))
    for parameter in model.parameters():  # as drawn, states are too small for a second code
        if parameter.ndim > 1:
            parameter.data.normal_(0, 1.4 * parameter[0].numel() ** -0.5)
    return saved(model, folder)


def emu3(folder: Path) -> Emu3VQVAE:
    """A code for 2 × 2 pixels."""
    torch.manual_seed(0)
    shape = {**PICTURES, "latent_channels": 4}  # as wide as the codes are
    config = Emu3VQVAEConfig(**shape, codebook_size=32, embed_dim=4, attn_resolutions=[1], hidden_size=64)
    return saved(Emu3VQVAE(config), folder)


def chameleon(folder: Path) -> ChameleonVQVAE:
    """16 codes of 32 for 8 × 8 pixels."""
    torch.manual_seed(0)
    return saved(ChameleonVQVAE(ChameleonVQVAEConfig(**PICTURES, num_embeddings=32, embed_dim=8, resolution=8)), folder)


def janus(folder: Path) -> JanusVQVAE:
    """16 codes of 32 for 8 × 8 pixels."""
    torch.manual_seed(0)
    return saved(JanusVQVAE(JanusVQVAEConfig(**PICTURES, num_embeddings=32, embed_dim=8, num_patches=4)), folder)


def inside_of(model: nn.Module, kind: str, folder: Path, **more) -> Path:
    """The checkpoint of a whole language model in which `model` is the image tokenizer, as far as it matters here."""
    from safetensors.torch import save_file

    folder.mkdir()
    tensors = {f"model.vqmodel.{name}": value.contiguous() for name, value in model.state_dict().items()}
    save_file({**tensors, "model.language_model.norm.weight": torch.ones(4)}, folder / "model.safetensors")
    config = {"model_type": kind, "vq_config": model.config.to_dict(), **more}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
