"""The module of `Lpips`."""

import warnings
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mmpt.errors import ConfigError
from mmpt.layers.resting import Resting

CLASSIFIERS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
"""Torchvision's names."""


class LpipsDistance(Resting):
    """The network of the `lpips` package, at rest."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.eval().requires_grad_(False)

    def forward(self, drawn: Tensor, pixels: Tensor) -> Tensor:
        """Distances [B] of pictures [B, 3, H, W] in −1 … 1."""
        return self.network(drawn, pixels).flatten()


def load_lpips(net: str, weights: Path | None) -> LpipsDistance:
    """The package's network, its linear weights from the package, its classifier's from the file `weights` or, by default, from
    where torchvision has them. Raises `ConfigError` where one of them is missing or does not fit."""
    try:
        import lpips
        import torchvision
    except ImportError:
        raise ConfigError('perceptual: lpips needs a package: pip install "mmpt[lpips]"') from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the package calls torchvision by a form that it has replaced
        # Random first: the package itself would download in the same breath in which it builds, and take no file.
        network = cast(Any, lpips).LPIPS(net=net, pnet_rand=True, verbose=False)
    classifier = torchvision.models.get_model(CLASSIFIERS[net], weights=None)
    try:
        classifier.load_state_dict(load_file(weights) if weights else _downloaded(CLASSIFIERS[net]))
    except (OSError, RuntimeError, SafetensorError) as problem:
        where = weights or f"torchvision's {CLASSIFIERS[net]}"
        raise ConfigError(f"perceptual: {where}: no weights of {CLASSIFIERS[net]} can be loaded ({problem})") from None
    features = cast(nn.Sequential, classifier.features)
    for part in network.net.children():
        for place, layer in part.named_children():  # named by their places in the classifier
            layer.load_state_dict(features[int(place)].state_dict())
    return LpipsDistance(network)


def _downloaded(name: str) -> dict[str, Tensor]:
    import torchvision

    # IMAGENET1K_V1: those that the linear weights were learned over.
    return dict(torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].get_state_dict(check_hash=True))
