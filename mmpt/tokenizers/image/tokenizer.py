"""The image tokenizer: an image in, a short causal sequence of codes out, and the way back."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, DataError
from mmpt.layers.qformer import Branch, Qformer, ReverseQformer
from mmpt.storage import check_folder, published_folder, read_json, write_json
from mmpt.tokenizers.evaluating import evaluating
from mmpt.tokenizers.figures import ImageFigures
from mmpt.tokenizers.image.captions import TextTower, caption_writer
from mmpt.tokenizers.image.config import FORMAT, ImageTokenizerConfig
from mmpt.tokenizers.image.decoder import ImageDecoder
from mmpt.tokenizers.image.pixels import picture_bytes, to_pixels
from mmpt.tokenizers.image.refine import Refiner
from mmpt.tokenizers.image.renderers import ImageRenderer, Renderer
from mmpt.tokenizers.quantized import Quantized

if TYPE_CHECKING:
    from mmpt.tokenizers.image.towers._open_clip import OpenClipTower
    from mmpt.tokenizers.quantizers._residual import ResidualQuantizer

CHUNK = 64  # images at a time in encode and decode


class ImageTokenizer(nn.Module):
    """Vision tower → Q-Former → quantiser → decoder to pixels, after SEED (Ge et al. 2023); stages.py trains it."""

    def __init__(self, config: ImageTokenizerConfig, pretrained: bool = True):
        super().__init__()
        self.config = config
        dim, queries, width = config.quantizer.dim, config.qformer.queries, config.qformer.width
        self.tower = config.tower.build(config.side, pretrained)
        asked = config.qformer
        shape = (asked.queries, asked.width, asked.depth, asked.heads)
        self.qformer = Qformer(*shape, self.tower.width, asked.sharpness, asked.causal)
        self.down = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, dim))
        self.quantizer = config.quantizer.build()
        self.decoder = ImageDecoder(config.side, queries, dim, config.decoder)
        self.text = TextTower(config.captions, queries, dim)
        if pretrained:
            self.text.prepare()
        self.describer = caption_writer(config.captions, queries, dim, pretrained)
        self.summary = nn.Linear(width, config.captions.dim)
        self.scale = nn.Parameter(torch.tensor([math.log(1 / 0.07)]))  # of one dimension: DeepSpeed takes none without
        self.target: OpenClipTower | None = None
        self.restoring: Branch | None = None
        self.embedding: ReverseQformer | None = None
        self._renderer: ImageRenderer | None = None
        if branches := config.branches:
            out = config.captions.dim
            if branches.target:
                self.target = branches.target.build(config.side, pretrained)
                out = self.target.embedding_width
            queries, width, _, heads = shape
            self.restoring = Branch(queries, width, branches.depth, heads, dim)
            self.embedding = ReverseQformer(queries, width, branches.depth, heads, dim, branches.reverse_depth, out)
        self.refiner = Refiner(queries, dim, config.refine) if config.refine else None

    @property
    def codes(self) -> int:
        """Codebook size."""
        return self.config.quantizer.codes

    @property
    def codes_per_image(self) -> int:
        return self.config.figures.codes_per_image

    @property
    def books(self) -> int:
        """Codes of each query, of a codebook each: those of the first, which captions are compared with, come first."""
        return self.config.quantizer.depth

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.scale.device

    @property
    def figures(self) -> ImageFigures:
        """How many codes, and how many for a picture."""
        return self.config.figures

    @property
    def embedding_width(self) -> int:
        """Values of the embedding that stage II predicts from codes; 0 without `branches`."""
        if not self.config.branches:
            return 0
        return self.target.embedding_width if self.target else self.config.captions.dim

    def states(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`pixels` [B, 3, side, side] in −1 … 1 → Q-Former states [B, queries, width] and what is quantised [B, queries, dim]."""
        hidden = self.qformer(self.tower(pixels))
        states = self.down(hidden).float()
        return hidden, self.quantizer.bounded(states)

    def quantize(self, states: torch.Tensor) -> Quantized:
        """Of `states` [B, queries, dim], in float32."""
        with torch.autocast(states.device.type, enabled=False):
            return self.quantizer(states)

    def chosen(self, pixels: torch.Tensor) -> torch.Tensor:
        """The codes [B, codes_per_image] of pixels [B, 3, side, side]."""
        codes = self.quantize(self.states(pixels)[1]).codes
        if self.refiner is not None:
            first = torch.arange(self.books, device=codes.device) * (self.codes // self.books)  # of each codebook
            codes = first + self.refiner(codes - first, self.entries(), self.decoder.coarse, self.decoder.canvas(pixels))
        return self.in_order(codes)

    @torch.no_grad()
    def measure_refining(self, batches: Iterable[torch.Tensor]) -> None:
        """What the search of `refine` is led by, of batches of pixels [B, 3, side, side]: once all else has learned."""
        if self.refiner is not None:
            with evaluating(self):
                codes = [self.quantize(self.states(pixels.to(self.device))[1]).codes for pixels in batches]
            self.refiner.measure(self.decoder.coarse, (self.quantizer.decode(some) for some in codes))

    def in_order(self, codes: torch.Tensor) -> torch.Tensor:
        """What the quantiser gives, [B, queries] or [B, queries, books], as a picture's codes [B, codes_per_image]: all queries'
        codes of the first codebook, then all of the second, …"""
        return codes if codes.ndim == 2 else codes.transpose(1, 2).flatten(1)

    def vectors(self, codes: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """float32 [B, queries, D] of `codes` [B, codes_per_image]. `counts` [B]: so many of the first alone; what a query has no
        code for at all is the decoder's to replace."""
        if self.books == 1:
            return self.quantizer.decode(codes)
        by_query = codes.unflatten(1, (self.books, -1)).transpose(1, 2)
        if counts is None:
            return self.quantizer.decode(by_query)
        places = torch.arange(codes.shape[1], device=codes.device).view(self.books, -1).t()
        given = places < counts[:, None, None]
        return (cast("ResidualQuantizer", self.quantizer).parts(by_query) * given[..., None]).sum(dim=-2)

    def entries(self) -> torch.Tensor:
        """Those of each codebook: float32 [books, size, D]."""
        size = self.codes // self.books
        codes = torch.arange(size, device=self.device)
        if self.books == 1:
            return self.quantizer.decode(codes)[None]
        every = torch.stack([codes + number * size for number in range(self.books)], dim=-1)
        return cast("ResidualQuantizer", self.quantizer).parts(every).transpose(0, 1)

    def meaning(self, codes: torch.Tensor) -> torch.Tensor:
        """Of what captions are compared with: of the codes of the first codebook alone."""
        return self.vectors(codes, torch.full((len(codes),), codes.shape[1] // self.books, device=codes.device))

    def image_embedding(self, hidden: torch.Tensor) -> torch.Tensor:
        """What is compared with captions, of length 1: [B, captions.dim] of Q-Former states [B, queries, width]."""
        compared = hidden[:, -1] if self.config.qformer.summary == "last" else hidden.mean(dim=1)
        return F.normalize(self.summary(compared).float(), dim=-1)

    def encode(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Codes int64 [n, codes_per_image] of images of any size and mode."""
        found = self._of_images(images, self.chosen)
        return found if len(found) else np.zeros((0, self.codes_per_image), dtype=np.int64)

    def decode(
        self, codes: np.ndarray, first: int | None = None, seed: int = 0, guidance: float | None = None
    ) -> list[Image.Image]:
        """Images of side × side pixels of `codes` [n, codes_per_image], or of the `first` of them alone.

        Where the decoder has a flow, `seed` chooses the noise it draws from, and `guidance` is by default its configuration's.
        Raises `DataError` on codes of another shape or range.
        """
        count = self.codes_per_image if first is None else first
        if not 0 <= count <= self.codes_per_image:
            raise DataError(f"first is {first}, expected 0 … {self.codes_per_image}")

        def draw(rows: torch.Tensor) -> torch.Tensor:
            counts = torch.full((len(rows),), count, device=rows.device)
            drawn = self.decoder.draw(self.decoder.first(self.vectors(rows, counts), counts), seed, guidance)
            return ((drawn.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

        return [Image.fromarray(value) for value in self._of_codes(codes, draw)]

    def render_by(self, renderer: Renderer) -> None:
        """Draw by `renderer` in `render` from now on. Raises `ConfigError` where it cannot be loaded or does not fit."""
        self._renderer = renderer.build(self)

    def render(self, codes: np.ndarray, first: int | None = None, seed: int = 0) -> Sequence[Image.Image]:
        """The images of `codes` [n, codes_per_image], or of the `first` of them, as they are to be seen: by the renderer of the
        configuration or of `render_by`, loaded where the first is drawn. Raises what that raises, and `DataError`."""
        if self._renderer is None:
            self.render_by(self.config.renderer)
        return cast(ImageRenderer, self._renderer).render(codes, first, seed)

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Embeddings of length 1, float32 [n, captions.dim], to be compared with those of texts."""
        return self._of_images(images, lambda pixels: self.image_embedding(self.states(pixels)[0]))

    def embed_codes(self, codes: np.ndarray) -> np.ndarray:
        """The same embeddings of what the codes [n, codes_per_image] give back of the image's states."""
        return self._of_codes(codes, lambda rows: self.image_embedding(self._restored(rows)))

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embeddings of length 1 of texts, float32 [n, captions.dim]."""
        rows = [torch.tensor(self.config.captions.encoder.ids(text, self.config.captions) or [0]) for text in texts]
        with evaluating(self):
            found = [self.text(row[None].to(self.scale.device))[0] for row in rows]
        rows = torch.cat(found) if found else torch.zeros(0, self.config.captions.dim)
        return F.normalize(rows.float(), dim=-1).cpu().numpy()

    def features(self, images: Sequence[Image.Image]) -> np.ndarray:
        """The Q-Former's states of images: float32 [n, queries, width]."""
        return self._of_images(images, lambda pixels: self.states(pixels)[0].float())

    def features_of_codes(self, codes: np.ndarray) -> np.ndarray:
        """Those states as the codes [n, codes_per_image] give them back."""
        return self._of_codes(codes, lambda rows: self._restored(rows).float())

    def predicted_embedding(self, codes: np.ndarray) -> np.ndarray:
        """The embedding that stage II predicts from codes, float32 [n, width of the target], such as unCLIP is conditioned on."""
        return self._of_codes(codes, lambda rows: self.branches()[1](self.meaning(rows)).float())

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

    def branches(self) -> tuple[Branch, ReverseQformer]:
        """What gives back the Q-Former's states from the codes, and what predicts the embedding. Raises `DataError` where the
        tokenizer was configured without."""
        if self.restoring is None or self.embedding is None:
            raise DataError("this tokenizer was configured without `branches`, which stage II trains")
        return self.restoring, self.embedding

    def _restored(self, codes: torch.Tensor) -> torch.Tensor:
        return self.branches()[0](self.meaning(codes))

    def _of_images(self, images: Sequence[Image.Image], function: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        found = []
        kind = self.scale.device.type
        # As in training; on a CPU float32 is no slower than bfloat16 for one chunk.
        fast = torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda" and self.config.precision == "bf16")
        with evaluating(self), fast:
            for start in range(0, len(images), CHUNK):
                squashed = np.stack(
                    [picture_bytes(image, self.config.side, self.config.aspect) for image in images[start : start + CHUNK]]
                )
                found.append(function(to_pixels(squashed).to(self.scale.device)).cpu().numpy())
        return np.concatenate(found) if found else np.zeros(0)

    def _of_codes(self, codes: np.ndarray, function: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != self.codes_per_image or not np.issubdtype(codes.dtype, np.integer):
            raise DataError(f"codes are {codes.dtype} {list(codes.shape)}, expected int [images, {self.codes_per_image}]")
        if codes.size and (codes.min() < 0 or codes.max() >= self.codes):
            raise DataError(f"codes run from {codes.min()} to {codes.max()}, expected 0 … {self.codes - 1}")
        found = []
        with evaluating(self):
            for rows in torch.from_numpy(codes.astype(np.int64)).split(CHUNK):
                found.append(function(rows.to(self.scale.device)).cpu().numpy())
        return np.concatenate(found)
