"""The codec of `Janus`."""

from pathlib import Path

import torch
from transformers import JanusVQVAE, JanusVQVAEConfig

from mmpt.errors import CheckpointError
from mmpt.storage import read_json
from mmpt.tokenizers.published._loading import vq_model
from mmpt.tokenizers.published._pictures import PictureCodec, Scale, scale_of
from mmpt.tokenizers.published.janus import Janus, patches


class JanusCodec(PictureCodec):
    """`JanusVQVAE`."""

    def __init__(self, settings: Janus, folder: Path):
        config = read_json(folder / "config.json", CheckpointError)
        super().__init__(settings.figures(config), scale_of(folder, Scale(1 / 255, [0.5] * 3, [0.5] * 3)))
        self.model = vq_model(JanusVQVAE, JanusVQVAEConfig, config, folder, settings.prefixes, num_patches=patches(config))

    def codes_of(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode(pixels).image_tokens.view(len(pixels), -1)

    def pixels_of(self, codes: torch.Tensor) -> torch.Tensor:
        return self.model.decode(codes)
