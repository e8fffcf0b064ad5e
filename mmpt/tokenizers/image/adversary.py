"""What tells drawn pictures from real ones, patch by patch."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmpt.tokenizers.adversaries import Judges, Looked, adaptive_weight
from mmpt.tokenizers.image.stage_config import AdversaryConfig
from mmpt.tokenizers.terms import Term


class Adversary(Judges):
    """PatchGAN (Isola et al. 2016, arXiv:1611.07004, section 3.2.2) with a hinge, its weight set by gradients at the last layer
    of what draws (VQGAN, Esser et al. 2021, arXiv:2012.09841, eq. 6 and 7); features of its layers are compared as well (Larsen
    et al. 2015, arXiv:1512.09300)."""

    def __init__(self, config: AdversaryConfig):
        super().__init__([PatchDiscriminator(config.channels, config.layers)], "hinge")
        self.config = config

    def terms(self, drawn: Tensor, pixels: Tensor, rest: Tensor, last: Tensor) -> dict[str, Term]:
        """Of pictures `drawn` [B, 3, H, W] of `pixels`, `rest` being the loss of the other terms and `last` the weight of the
        last layer. `adversary` teaches this module alone, `fooling` and `features` what drew; `fooling_weight` is told."""
        config, count = self.config, len(drawn)
        told, fooled, features = self.judged(drawn, pixels)
        weight = adaptive_weight(rest, fooled, last) * config.weight
        found = {
            "adversary": Term.mean(told, count),
            "fooling": Term.mean(weight * fooled, count),
            "fooling_weight": Term.mean(weight, count, 0.0),
        }
        if config.features:
            found["features"] = Term.mean(features, count, config.features)
        return found


class PatchDiscriminator(nn.Module):
    """A judgement of every patch: `layers` convolutions that halve the side, one that does not, and the last."""

    def __init__(self, channels: int, layers: int):
        super().__init__()
        widths = [3, *(channels * min(2**i, 8) for i in range(layers + 1))]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, 4, 2 if place < layers else 1, 1)
            for place, (before, after) in enumerate(zip(widths[:-1], widths[1:], strict=True))
        )
        # By picture and groups of channels, not by batch: a judgement is the same on any number of ranks.
        self.norms = nn.ModuleList(nn.GroupNorm(min(8, width), width) for width in widths[2:])
        self.out = nn.Conv2d(widths[-1], 1, 4, 1, 1)

    def forward(self, pixels: Tensor) -> Looked:
        x, features = pixels, []
        for place, layer in enumerate(self.layers):
            x = layer(x)
            x = F.leaky_relu(self.norms[place - 1](x) if place else x, 0.2)
            features.append(x)
        return self.out(x).flatten(1), features
