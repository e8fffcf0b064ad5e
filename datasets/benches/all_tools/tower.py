"""A vision tower whose features can be computed by hand: one patch is the whole picture, and a feature is one of its lowest
frequencies. It knows a picture that was cropped, made smaller or compressed, as far as such features can."""

from pathlib import Path

import numpy as np

SIDE, EACH = 32, 6


def waves() -> np.ndarray:
    """float64 [features, SIDE, SIDE]: products of cosines, all but the constant one, of length 1."""
    one = np.cos(np.pi * np.outer(np.arange(EACH), np.arange(SIDE) + 0.5) / SIDE)
    every = np.einsum("ah,bw->abhw", one, one).reshape(-1, SIDE, SIDE)[1:]
    return every / np.linalg.norm(every, axis=(1, 2), keepdims=True)


def make(folder: Path) -> dict:
    """The section `tower` of a model of transformers that is written to `folder`: no layers behind its patch."""
    import torch
    from transformers import ViTConfig, ViTModel

    found = waves()
    config = ViTConfig(
        image_size=SIDE, patch_size=SIDE, hidden_size=len(found), num_hidden_layers=0, num_attention_heads=1, intermediate_size=1
    )
    model = ViTModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.embeddings.patch_embeddings.projection.weight.copy_(torch.tensor(found)[:, None].expand(-1, 3, -1, -1) / 3)
        model.layernorm.weight.fill_(1)
    model.save_pretrained(folder)
    return {"kind": "transformers", "model": str(folder)}


def vector(pixels: np.ndarray) -> np.ndarray:
    """float64, of length 1, of a picture uint8 [SIDE, SIDE, 3], by the definition; 0 of a picture of one colour."""
    grey = (pixels.astype(np.float64) / 127.5 - 1).mean(axis=2)
    found = np.einsum("fhw,hw->f", waves(), grey)
    found -= found.mean()  # the norm in the end
    length = np.linalg.norm(found)
    return found / length if length > 1e-4 else np.zeros_like(found)
