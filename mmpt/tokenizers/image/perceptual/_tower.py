"""The module of `Tower`."""

import difflib
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmpt.errors import ConfigError
from mmpt.tokenizers.image.tower import TowerModule

_BLOCK = re.compile(r"(.*\.)?(blocks|layers|resblocks|layer|stages)\.\d+")


class TowerDistance(nn.Module):
    """The mean over `layers` of squared differences of features of length 1, summed over channels, averaged over positions."""

    def __init__(self, tower: TowerModule, layers: tuple[str, ...] = ()):
        """Raises `ConfigError` where the tower has no such layers."""
        super().__init__()
        self.tower = tower
        known: dict[str, nn.Module] = dict(tower.named_modules())
        self.layers = layers or tuple(_several(known))
        for name in self.layers:
            if name not in known:
                near = difflib.get_close_matches(name, known, 3)
                raise ConfigError(
                    f"perceptual.layers: the tower has no {name!r}" + (f", near: {', '.join(near)}" if near else "")
                )
        if not self.layers:
            raise ConfigError("perceptual.layers: expected names of the tower's modules, since it has no stem and no blocks")

    def forward(self, drawn: Tensor, pixels: Tensor) -> Tensor:
        """Distances [B] of pictures [B, 3, side, side] in −1 … 1."""
        with torch.no_grad():
            real = self._features(pixels)
        return torch.stack([_apart(*pair) for pair in zip(self._features(drawn), real, strict=True)]).mean(dim=0)

    def _features(self, pixels: Tensor) -> list[Tensor]:
        tower = self.tower
        # By weights that do not learn from it, or a tower that trains would learn to see no difference.
        frozen = {name: weight.detach() for name, weight in tower.named_parameters()}
        with _listening(tower, self.layers) as found:
            functional_call(tower, frozen, (pixels,))
        return [found[name] for name in self.layers]


@contextmanager
def _listening(module: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    found: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(_module: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
            found[name] = output if isinstance(output, Tensor) else output[0]

        return hook

    known = dict(module.named_modules())
    handles = [known[name].register_forward_hook(keep(name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _several(known: dict[str, nn.Module]) -> list[str]:
    """Activations of a stem, and four blocks at most, evenly through the depth."""
    stem = [name for name, one in known.items() if name.startswith("stem.") and isinstance(one, nn.GELU | nn.ReLU | nn.SiLU)]
    blocks = [name for name in known if _BLOCK.fullmatch(name)]
    shallow = min((name.count(".") for name in blocks), default=0)
    blocks = [name for name in blocks if name.count(".") == shallow]
    even = [blocks[round((i + 1) * len(blocks) / 4) - 1] for i in range(4)] if len(blocks) > 4 else blocks
    return stem + even


def _apart(one: Tensor, other: Tensor) -> Tensor:
    channels = 1 if one.ndim == 4 else -1
    one, other = (nn.functional.normalize(features.float(), dim=channels, eps=1e-6) for features in (one, other))
    return (one - other).square().sum(dim=channels).flatten(1).mean(dim=1)
