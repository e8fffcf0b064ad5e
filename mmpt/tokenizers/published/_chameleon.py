"""The codec of `Chameleon`."""

from pathlib import Path

import torch
from transformers import ChameleonVQVAE, ChameleonVQVAEConfig

from mmpt.errors import CheckpointError, DataError
from mmpt.storage import read_json
from mmpt.tokenizers.published._loading import vq_model
from mmpt.tokenizers.published._pictures import PictureCodec, Scale, scale_of
from mmpt.tokenizers.published.chameleon import Chameleon


class ChameleonCodec(PictureCodec):
    """`ChameleonVQVAE`: the way to codes alone."""

    def __init__(self, settings: Chameleon, folder: Path):
        config = read_json(folder / "config.json", CheckpointError)
        # Bytes times 0.0078, less 1: as its image processor has it.
        super().__init__(settings.figures(config), scale_of(folder, Scale(0.0078, [1.0] * 3, [1.0] * 3)))
        self.model = vq_model(ChameleonVQVAE, ChameleonVQVAEConfig, config, folder, settings.prefixes)

    def codes_of(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.model.encode(pixels).image_tokens.view(len(pixels), -1)

    def pixels_of(self, codes: torch.Tensor) -> torch.Tensor:
        raise DataError("codes of Chameleon cannot be drawn: transformers has the encoder of its tokenizer alone")
