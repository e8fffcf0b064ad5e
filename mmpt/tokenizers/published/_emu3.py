"""The codec of `Emu3`."""

from pathlib import Path

import torch
from transformers import Emu3VQVAE, Emu3VQVAEConfig

from mmpt.errors import CheckpointError
from mmpt.storage import read_json
from mmpt.tokenizers.published._loading import vq_model
from mmpt.tokenizers.published._pictures import PictureCodec, Scale, scale_of
from mmpt.tokenizers.published.emu3 import Emu3


class Emu3Codec(PictureCodec):
    """`Emu3VQVAE`, a picture at a time."""

    def __init__(self, settings: Emu3, folder: Path):
        config = read_json(folder / "config.json", CheckpointError)
        super().__init__(settings.figures(config), scale_of(folder, Scale(1 / 255, [0.5] * 3, [0.5] * 3)))
        self.model = vq_model(Emu3VQVAE, Emu3VQVAEConfig, config, folder, settings.prefixes)

    def codes_of(self, pixels: torch.Tensor) -> torch.Tensor:
        sizes = torch.tensor([[self.figures.side] * 2] * len(pixels))
        return torch.stack(self.model.encode(pixels, sizes).image_tokens).flatten(1)

    def pixels_of(self, codes: torch.Tensor) -> torch.Tensor:
        rows = round(self.figures.codes_per_image**0.5)
        return self.model.decode(codes.unflatten(1, (rows, rows)))
