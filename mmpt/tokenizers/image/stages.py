"""How an image tokenizer is trained: SEED's stages one after the other, or all parts at once.

Each stage is a module for `fit`: its parameters that ask for a gradient learn, the tokenizer's others are frozen.
"""

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.kernels.device import multiplies_bfloat16
from mmpt.tokenizers.image.adversary import Adversary
from mmpt.tokenizers.image.batches import ImageBatch
from mmpt.tokenizers.image.losses import contrastive_loss, pixel_loss, prediction_loss
from mmpt.tokenizers.image.matching import Matcher, matching_term
from mmpt.tokenizers.image.perceptual import Perceptual
from mmpt.tokenizers.image.perturbing import left_of, perturbed
from mmpt.tokenizers.image.stage_config import AlignConfig, DrawConfig, JointConfig, QuantizeConfig
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
        self._perceptual: tuple[Perceptual, nn.Module] | None = None
        self.adversary: Adversary | None = None
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

    def look(self, config: DrawConfig | JointConfig) -> None:
        """Compare what is drawn as `config` says, beside its pixels."""
        if config.perceptual:
            # In a tuple it is no part of the stage: a published network does not belong into checkpoints.
            self._perceptual = (config.perceptual, config.perceptual.build(self.tokenizer.tower))
        if config.adversary:
            self.adversary = Adversary(config.adversary)

    def looked(self, canvas: torch.Tensor, pixels: torch.Tensor, own: Term, progress: float) -> dict[str, Term]:
        """The terms of that comparison of what is drawn; `own`: that of the pixels."""
        found: dict[str, Term] = {}
        if not self._perceptual and not self.adversary:
            return found
        drawn = self.tokenizer.decoder.shown(canvas)
        rest = own.weight * own.total / own.count
        if self._perceptual:
            settings, module = self._perceptual
            away = module.to(pixels.device)(drawn, pixels).mean()
            found["perceptual"] = Term.mean(away, len(drawn), settings.weight)
            rest = rest + settings.weight * away
        if self.adversary and progress >= self.adversary.config.start:
            found |= self.adversary.terms(drawn, pixels, rest, self.tokenizer.decoder.coarse.last)
        return found


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
            found["pixels"] = Term.mean(pixel_loss(drawn, tokenizer.decoder.canvas(batch.pixels), 0), count, self.config.pixels)
        return found


class CodebookStage(Stage):
    """One in which the codebook learns."""

    def read(self, quantized: Quantized, config: QuantizeConfig | JointConfig, progress: float) -> torch.Tensor:
        """The codes [B, codes_per_image] that are read, some of them not right where `config` asks for that."""
        codes = self.tokenizer.in_order(quantized.codes)
        if config.perturb is None:
            return codes
        return perturbed(codes, self.tokenizer.entries(), config.perturb, left_of(config.perturb, progress, config.quantize_from))

    def meant(self, states: torch.Tensor, quantized: Quantized, codes: torch.Tensor, perturb: bool) -> torch.Tensor:
        """What captions are made of, [B, queries, dim] with the gradient of `states`: the vectors of the first codebook."""
        if self.tokenizer.books == 1 and not perturb:
            return quantized.states  # the entries as they were when they were chosen
        return _through(states, self.tokenizer.meaning(codes))


class QuantizeStage(CodebookStage):
    """Stage II."""

    def __init__(self, tokenizer: ImageTokenizer, config: QuantizeConfig):
        super().__init__(tokenizer, tokenizer.down, tokenizer.quantizer, *tokenizer.branches())
        self.config = config

    def terms(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        tokenizer, config, count = self.tokenizer, self.config, len(batch.pixels)
        hidden, states = tokenizer.states(batch.pixels)
        target = tokenizer.target.embed(batch.pixels) if tokenizer.target else tokenizer.image_embedding(hidden)
        quantized = tokenizer.quantize(states) if progress >= config.quantize_from else None
        vectors = states
        if quantized is not None:
            vectors = self.meant(states, quantized, self.read(quantized, config, progress), config.perturb is not None)
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
        self.look(config)

    def terms(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        tokenizer, config, count = self.tokenizer, self.config, len(batch.pixels)
        with torch.no_grad():
            tokenizer.quantizer.eval()  # `train` of the stage has set it to learn
            quantized = tokenizer.quantize(tokenizer.states(batch.pixels)[1])
            codes = tokenizer.in_order(quantized.codes)
            if config.perturb:
                codes = perturbed(codes, tokenizer.entries(), config.perturb)
            other = (batch.generated >= 0) & (torch.rand(count, 1, device=codes.device) < config.generated)
            codes = torch.where(other, batch.generated, codes)
            given = _given(codes, config.beginnings, config.empty)
            vectors = tokenizer.vectors(codes, given)
        vectors = tokenizer.decoder.first(vectors, given)
        coarse, canvas = tokenizer.decoder.coarse(vectors).float(), tokenizer.decoder.canvas(batch.pixels)
        found = {"pixels": Term.mean(pixel_loss(coarse, canvas, config.tolerance), count, config.pixels)}
        found |= self.looked(coarse, batch.pixels, found["pixels"], progress)
        if tokenizer.decoder.flow is not None:
            found["flow"] = tokenizer.decoder.flow.loss(canvas, coarse.detach(), vectors)._replace(weight=config.flow)
        return found


class JointStage(CodebookStage):
    """All parts at once."""

    def __init__(self, tokenizer: ImageTokenizer, config: JointConfig):
        learned = (tokenizer.tower, tokenizer.qformer, tokenizer.down, tokenizer.quantizer, tokenizer.decoder.coarse)
        nothing = tokenizer.decoder.nothing if config.beginnings else None
        super().__init__(tokenizer, *learned, nothing, tokenizer.text, tokenizer.describer, tokenizer.summary, tokenizer.scale)
        self.config = config
        self.look(config)

    def terms(self, batch: ImageBatch, progress: float) -> dict[str, Term]:
        tokenizer, config, count = self.tokenizer, self.config, len(batch.pixels)
        hidden, states = tokenizer.states(batch.pixels)
        quantized = tokenizer.quantize(states) if progress >= config.quantize_from else None
        vectors, codes, drawn_of = states, None, states
        if quantized is not None:
            codes = self.read(quantized, config, progress)
            drawn_of = vectors = self.meant(states, quantized, codes, config.perturb is not None)
        given = _given(states if codes is None else codes, config.beginnings) if config.beginnings else None
        if codes is not None and tokenizer.books > 1:
            drawn_of = _through(states, tokenizer.vectors(codes, given))
        if given is not None:
            drawn_of = tokenizer.decoder.first(drawn_of, given)
        summary, predicted = tokenizer.text(batch.captions)
        drawn = tokenizer.decoder.coarse(drawn_of).float()
        terms = {
            "pixels": pixel_loss(drawn, tokenizer.decoder.canvas(batch.pixels), config.tolerance),
            "contrast": contrastive_loss(tokenizer.image_embedding(hidden), summary, batch.captions, tokenizer.scale),
            "predict": prediction_loss(states, predicted, (batch.captions != 0).any(dim=1)),
            "describe": tokenizer.describer(vectors, batch.captions),
        }
        found = {name: Term.mean(term, count, getattr(config, name)) for name, term in terms.items()}
        found |= self.looked(drawn, batch.pixels, found["pixels"], progress)
        if quantized is None:
            return found
        found["quantizer"] = Term(quantized.loss, quantized.count)
        return {**found, **self.used(quantized)}


def _through(states: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """The values of `vectors` with the gradient of `states` (straight through: Bengio et al. 2013, arXiv:1308.3432)."""
    return states + (vectors - states).detach()


def _swapped(vectors: torch.Tensor, share: float) -> torch.Tensor:
    """`vectors` [B, queries, D], a random `share` of them those of the image before."""
    if not share:
        return vectors
    wrong = torch.rand(*vectors.shape[:2], 1, device=vectors.device) < share
    return torch.where(wrong, vectors.detach().roll(1, dims=0), vectors)


def _given(codes: torch.Tensor, beginnings: float, empty: float = 0.0) -> torch.Tensor:
    """How many of the first of `codes` [B, n] or vectors [B, n, D] are given of each image: [B]."""
    (count, queries), device = codes.shape[:2], codes.device
    chance = torch.rand(count, device=device)
    random = torch.randint(1, queries + 1, (count,), device=device)
    given = torch.where(chance < beginnings + empty, random, queries)
    return torch.where(chance < empty, 0, given)
