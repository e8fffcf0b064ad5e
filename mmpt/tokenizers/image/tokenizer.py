"""The image tokenizer: a picture in, a short causal sequence of codes out, and the way back."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, DataError
from mmpt.storage import check_folder, published_folder, read_json, write_json
from mmpt.tokenizers.image.batches import ImageBatch, picture_bytes, to_pixels
from mmpt.tokenizers.image.captions import CaptionDecoder, TextTower
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.decoder import PixelDecoder
from mmpt.tokenizers.image.encoder import CausalQformer, build_tower
from mmpt.tokenizers.image.losses import contrastive_loss, pixel_loss, prediction_loss
from mmpt.tokenizers.quantizers import EmaConfig, Quantized, build_quantizer
from mmpt.tokenizers.terms import StepOutput, Term, UsedCodes

FORMAT = "mmpt-image-tokenizer/2"
CHUNK = 64  # pictures at a time in encode and decode


class ImageTokenizer(nn.Module):
    """Vision tower → causal Q-Former → quantiser → pixel decoder, after SEED (Ge et al. 2023), trained in one go.

    States for a learned codebook are scaled to one length (as in ViT-VQGAN, Yu et al. 2022), so that no term of the loss can
    be lowered by shrinking them.
    """

    def __init__(self, config: ImageTokenizerConfig, pretrained: bool = True):
        super().__init__()
        self.config = config
        dim = config.quantizer.dim
        self.tower = build_tower(config, pretrained)
        self.qformer = CausalQformer(config.qformer, self.tower.width)
        width = config.qformer.width
        self.down = nn.Linear(width, dim)
        self.quantizer = build_quantizer(config.quantizer)
        self.decoder = PixelDecoder(config.side, config.qformer.queries, dim, config.decoder)
        self.text = TextTower(config.captions, config.qformer.queries, dim)
        self.describer = CaptionDecoder(config.captions, config.qformer.queries, dim)
        self.summary = nn.Linear(width, config.captions.dim)
        self.scale = nn.Parameter(torch.tensor([math.log(1 / 0.07)]))  # of one dimension: DeepSpeed takes none without

    @property
    def codes(self) -> int:
        """Codebook size."""
        return self.config.quantizer.codes

    @property
    def codes_per_image(self) -> int:
        return self.config.qformer.queries

    def states(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`pixels` [B, 3, side, side] in −1 … 1 → Q-Former states [B, queries, width] and what is quantised [B, queries, dim]."""
        hidden = self.qformer(self.tower(pixels))
        states = self.down(hidden).float()
        if isinstance(self.config.quantizer, EmaConfig):
            states = F.normalize(states, dim=-1) * math.sqrt(states.shape[-1])
        return hidden, states

    def _quantize(self, states: torch.Tensor) -> Quantized:
        with torch.autocast(states.device.type, enabled=False):
            return self.quantizer(states)

    def training_step(self, batch: ImageBatch, progress: float) -> StepOutput:
        """Terms of the loss for one batch; `progress` (0 … 1) decides whether the states are quantised yet."""
        batch = batch.to(self.scale.device)
        with torch.autocast(batch.pixels.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            hidden, states = self.states(batch.pixels)
            quantized = self._quantize(states) if progress >= self.config.quantize_from else None
            vectors = states if quantized is None else quantized.states
            drawn = self.decoder(vectors).float()
            summary, predicted = self.text(batch.captions)
            terms = {
                "pixels": pixel_loss(drawn, batch.pixels, self.config.losses.tolerance),
                "contrast": contrastive_loss(self.summary(hidden[:, -1]), summary, batch.captions, self.scale),
                "predict": prediction_loss(states, predicted),
                "describe": self.describer(vectors, batch.captions),
            }
        weights = self.config.losses
        found = {name: Term.mean(term, len(batch.pixels), getattr(weights, name)) for name, term in terms.items()}
        if quantized is None:
            return StepOutput(found)
        found["quantizer"] = Term(quantized.loss, quantized.count)
        restarts = int(getattr(self.quantizer, "restarts", 0))
        return StepOutput(found, UsedCodes(quantized.codes, self.codes, restarts))

    @torch.inference_mode()
    def encode(self, pictures: list[Image.Image]) -> np.ndarray:
        """Codes int64 [n, codes_per_image] of pictures of any size and mode."""
        device = self.scale.device
        found = []
        with _evaluating(self):
            for start in range(0, len(pictures), CHUNK):
                squashed = np.stack([picture_bytes(picture, self.config.side) for picture in pictures[start : start + CHUNK]])
                found.append(self.quantizer(self.states(to_pixels(squashed).to(device))[1]).codes.cpu().numpy())
        return np.concatenate(found) if found else np.zeros((0, self.codes_per_image), dtype=np.int64)

    @torch.inference_mode()
    def decode(self, codes: np.ndarray) -> list[Image.Image]:
        """Pictures of side × side pixels of `codes` [n, codes_per_image]. Raises `DataError` on another shape or range."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != self.codes_per_image or not np.issubdtype(codes.dtype, np.integer):
            raise DataError(f"codes are {codes.dtype} {list(codes.shape)}, expected int [pictures, {self.codes_per_image}]")
        if codes.size and (codes.min() < 0 or codes.max() >= self.codes):
            raise DataError(f"codes run from {codes.min()} to {codes.max()}, expected 0 … {self.codes - 1}")
        pictures = []
        with _evaluating(self):
            for rows in torch.from_numpy(codes.astype(np.int64)).split(CHUNK):
                drawn = self.decoder(self.quantizer.decode(rows.to(self.scale.device)))
                values = ((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
                pictures += [Image.fromarray(value) for value in values]
        return pictures

    def save(self, folder: Path) -> None:
        """Publish config.json and model.safetensors in `folder`."""
        with published_folder(folder, {"format": FORMAT}) as temporary:
            write_json(temporary / "config.json", self.config.model_dump(mode="json"))
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, temporary / "model.safetensors")

    @classmethod
    def load(cls, folder: Path) -> "ImageTokenizer":
        """A saved tokenizer in eval mode. Raises `CheckpointError` where the folder is not whole or its files do not match."""
        folder = Path(folder)
        check_folder(folder, FORMAT)
        path = folder / "config.json"
        config = parse_config(read_json(path, CheckpointError), ImageTokenizerConfig, str(path))
        tokenizer = cls(config, pretrained=False)
        try:
            tokenizer.load_state_dict(load_file(folder / "model.safetensors"))
        except (RuntimeError, SafetensorError) as problem:
            raise CheckpointError(f"{folder}/model.safetensors does not match config.json ({problem})") from None
        return tokenizer.eval()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, whatever the mode was outside afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
