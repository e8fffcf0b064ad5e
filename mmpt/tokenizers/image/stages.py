"""How an image tokenizer is trained: SEED's stages one after the other, or all parts at once.

Each stage is a module for `fit`: its parameters that ask for a gradient learn, the tokenizer's others are frozen.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.kernels.device import multiplies_bfloat16
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.losses import contrastive_loss, pixel_loss, prediction_loss
from mmpt.tokenizers.image.matching import Matcher, matching_term
from mmpt.tokenizers.image.stage_config import AlignConfig, DrawConfig, JointConfig, PerturbConfig, QuantizeConfig
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.quantized import Quantized
from mmpt.tokenizers.terms import Term, Trainable, codebook_terms


class Stage(Trainable):
    """Says which parts of `tokenizer` learn, and moves each batch to where it is, in the precision it asks for."""

    def __init__(self, tokenizer: ImageTokenizer, *parts: nn.Module | nn.Parameter | None):
        super().__init__()
        self.tokenizer = tokenizer
        tokenizer.requires_grad_(False)
        for part in parts:
            if part is not None:
                part.requires_grad_(True)
        if tokenizer.config.tower.frozen:  # whatever a stage would have learn
            tokenizer.tower.requires_grad_(False)

    def loss(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        """The stage's terms for one batch; `progress` (0 … 1) is how much of it is over."""
        batch = batch.to(self.tokenizer.scale.device)
        device = batch.pixels.device
        enabled = self.tokenizer.config.precision == "bf16" and multiplies_bfloat16(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            return self.terms(batch, progress)

    def terms(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        raise NotImplementedError

    def used(self, quantized: Quantized) -> dict[str, Term]:
        """What is told of the codes."""
        return codebook_terms(quantized.codes, self.tokenizer.codes, self.tokenizer.quantizer.restart_count())


class AlignStage(Stage):
    """Stage I."""

    def __init__(self, tokenizer: ImageTokenizer, config: AlignConfig):
        learned = [tokenizer.tower, tokenizer.qformer, tokenizer.text, tokenizer.summary, tokenizer.scale]
        if config.describe or config.pixels:
            learned.append(tokenizer.down)
        if config.describe:
            learned.append(tokenizer.describer)
        if config.pixels:
            learned += [tokenizer.decoder.coarse, tokenizer.decoder.nothing]
        super().__init__(tokenizer, *learned)
        self.config = config
        self.matcher = Matcher(tokenizer.config.captions, tokenizer.config.qformer.width) if config.match else None

    def terms(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        tokenizer, count = self.tokenizer, len(batch.pixels)
        hidden, states = tokenizer.states(batch.pixels)
        summary, _ = tokenizer.text(batch.captions)
        image = tokenizer.image_embedding(hidden)
        contrast = contrastive_loss(image, summary, batch.captions, tokenizer.scale)
        found = {"contrast": Term.mean(contrast, count)}
        if self.matcher is not None:
            alike = tokenizer.scale.clamp(max=4.6).exp() * image @ F.normalize(summary.float(), dim=-1).T
            found["match"] = matching_term(self.matcher, tokenizer.text, hidden, batch.captions, alike, self.config.match)
        states = _swapped(states, self.config.swap)
        if self.config.describe:
            found["describe"] = Term.mean(tokenizer.describer(states, batch.captions), count, self.config.describe)
        if self.config.pixels:
            # Of some images only the first states: what says most is then put first.
            known = tokenizer.decoder.first(states, _given(states, self.config.beginnings))
            drawn = tokenizer.decoder.coarse(known).float()
            found["pixels"] = Term.mean(pixel_loss(drawn, batch.pixels, 0), count, self.config.pixels)
        return found


class QuantizeStage(Stage):
    """Stage II."""

    def __init__(self, tokenizer: ImageTokenizer, config: QuantizeConfig):
        super().__init__(tokenizer, tokenizer.down, tokenizer.quantizer, *tokenizer.branches())
        self.config = config

    def terms(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        tokenizer, config, count = self.tokenizer, self.config, len(batch.pixels)
        hidden, states = tokenizer.states(batch.pixels)
        target = tokenizer.target.embed(batch.pixels) if tokenizer.target else tokenizer.image_embedding(hidden)
        quantized = tokenizer.quantize(states) if progress >= config.quantize_from else None
        vectors = states if quantized is None else quantized.states
        restoring, embedding = tokenizer.branches()
        restored = restoring(vectors)
        away = (1 - F.cosine_similarity(restored.float(), hidden.detach().float(), dim=-1)).mean()
        apart = (embedding(vectors).float() - target.detach().float()).square().mean()
        found = {"restore": Term.mean(away, count, config.restore), "embed": Term.mean(apart, count, config.embed)}
        if quantized is None:
            return found
        found["quantizer"] = Term(quantized.loss, quantized.count, config.quantizer)
        return {**found, **self.used(quantized)}


class DrawStage(Stage):
    """The decoder alone; with `perturb`, also of codes that are not quite right."""

    def __init__(self, tokenizer: ImageTokenizer, config: DrawConfig):
        super().__init__(tokenizer, tokenizer.decoder)
        self.config = config
        self.nearest: torch.Tensor | None = None

    def terms(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        tokenizer, config, count = self.tokenizer, self.config, len(batch.pixels)
        with torch.no_grad():
            tokenizer.quantizer.eval()  # `train` of the stage has set it to learn
            quantized = tokenizer.quantize(tokenizer.states(batch.pixels)[1])
            codes = quantized.codes
            if config.perturb:
                if self.nearest is None:  # the codebook is frozen
                    self.nearest = nearest_entries(tokenizer.quantizer.decode, tokenizer.codes, config.perturb.neighbours)
                codes = perturbed(codes, self.nearest, config.perturb)
            other = (batch.generated >= 0) & (torch.rand(count, 1, device=codes.device) < config.generated)
            vectors = tokenizer.quantizer.decode(torch.where(other, batch.generated, codes))
        vectors = tokenizer.decoder.first(vectors, _given(vectors, config.beginnings, config.empty))
        coarse = tokenizer.decoder.coarse(vectors).float()
        found = {"pixels": Term.mean(pixel_loss(coarse, batch.pixels, config.tolerance), count, config.pixels)}
        if tokenizer.decoder.flow is not None:
            found["flow"] = tokenizer.decoder.flow.loss(batch.pixels, coarse.detach(), vectors)._replace(weight=config.flow)
        return found


class JointStage(Stage):
    """All parts at once."""

    def __init__(self, tokenizer: ImageTokenizer, config: JointConfig):
        learned = (tokenizer.tower, tokenizer.qformer, tokenizer.down, tokenizer.quantizer, tokenizer.decoder.coarse)
        super().__init__(tokenizer, *learned, tokenizer.text, tokenizer.describer, tokenizer.summary, tokenizer.scale)
        self.config = config

    def terms(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        tokenizer, config, count = self.tokenizer, self.config, len(batch.pixels)
        hidden, states = tokenizer.states(batch.pixels)
        quantized = tokenizer.quantize(states) if progress >= config.quantize_from else None
        vectors = states if quantized is None else quantized.states
        summary, predicted = tokenizer.text(batch.captions)
        terms = {
            "pixels": pixel_loss(tokenizer.decoder.coarse(vectors).float(), batch.pixels, config.tolerance),
            "contrast": contrastive_loss(tokenizer.image_embedding(hidden), summary, batch.captions, tokenizer.scale),
            "predict": prediction_loss(states, predicted, (batch.captions != 0).any(dim=1)),
            "describe": tokenizer.describer(vectors, batch.captions),
        }
        found = {name: Term.mean(term, count, getattr(config, name)) for name, term in terms.items()}
        if quantized is None:
            return found
        found["quantizer"] = Term(quantized.loss, quantized.count)
        return {**found, **self.used(quantized)}


def nearest_entries(decode: Callable[[torch.Tensor], torch.Tensor], size: int, neighbours: int) -> torch.Tensor:
    """The `neighbours` other entries nearest to each of a codebook of `size`, the nearest first: int64 [size, neighbours] on the
    device of the codebook (fewer where there are no more)."""
    entries = decode(torch.arange(size))
    return torch.cdist(entries, entries).argsort(dim=1, stable=True)[:, 1 : neighbours + 1]


def perturbed(codes: torch.Tensor, nearest: torch.Tensor, config: PerturbConfig) -> torch.Tensor:
    """`codes` [B, queries], some of them replaced by a random one of their `nearest` entries, as `config` says."""
    chosen = nearest[codes, torch.randint(nearest.shape[1], codes.shape, device=codes.device)]
    wrong = torch.rand(codes.shape, device=codes.device) < config.codes
    wrong &= torch.rand(len(codes), 1, device=codes.device) < config.pictures
    return torch.where(wrong, chosen, codes)


def _swapped(vectors: torch.Tensor, share: float) -> torch.Tensor:
    """`vectors` [B, queries, D], a random `share` of them those of the image before."""
    if not share:
        return vectors
    wrong = torch.rand(*vectors.shape[:2], 1, device=vectors.device) < share
    return torch.where(wrong, vectors.detach().roll(1, dims=0), vectors)


def _given(vectors: torch.Tensor, beginnings: float, empty: float = 0.0) -> torch.Tensor:
    """How many of the first of `vectors` [B, queries, D] are given of each image: [B]."""
    (count, queries), device = vectors.shape[:2], vectors.device
    chance = torch.rand(count, device=device)
    random = torch.randint(1, queries + 1, (count,), device=device)
    given = torch.where(chance < beginnings + empty, random, queries)
    return torch.where(chance < empty, 0, given)
