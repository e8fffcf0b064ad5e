"""Quantisers behind one interface: a vector in, a code and its vector out."""

from torch import nn

from mmpt.tokenizers.quantizer_config import QuantizerConfig
from mmpt.tokenizers.quantizers.base import Quantized
from mmpt.tokenizers.quantizers.ema import EmaConfig, EmaQuantizer
from mmpt.tokenizers.quantizers.fsq import FiniteScalarQuantizer, FsqConfig
from mmpt.tokenizers.quantizers.health import code_counts, codebook_health, codebook_use
from mmpt.tokenizers.quantizers.none import NoneConfig, NoQuantizer
from mmpt.tokenizers.quantizers.residual import ResidualConfig, ResidualQuantizer
from mmpt.tokenizers.quantizers.vq import VectorQuantizer, VqConfig

__all__ = [
    "EmaConfig",
    "EmaQuantizer",
    "FiniteScalarQuantizer",
    "FsqConfig",
    "NoQuantizer",
    "NoneConfig",
    "Quantized",
    "QuantizerConfig",
    "ResidualConfig",
    "ResidualQuantizer",
    "VectorQuantizer",
    "VqConfig",
    "build_quantizer",
    "code_counts",
    "codebook_health",
    "codebook_use",
]

_CLASSES = {
    EmaConfig: EmaQuantizer,
    VqConfig: VectorQuantizer,
    FsqConfig: FiniteScalarQuantizer,
    ResidualConfig: ResidualQuantizer,
    NoneConfig: NoQuantizer,
}


def build_quantizer(config: QuantizerConfig) -> nn.Module:
    """The quantiser that a configuration describes."""
    return _CLASSES[type(config)](config)
