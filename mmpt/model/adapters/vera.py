from typing import ClassVar

from mmpt.model.adapters._vectors import VectorAdapter


class Vera(VectorAdapter):
    """One pair of random matrices for all layers, of which each learns two vectors of factors (Kopiczko et al. 2023,
    arXiv:2310.11454)."""

    carries: ClassVar[tuple[str, ...]] = ("Intrinsic Dimensionality of LM Fine-Tuning",)

    settings_of_peft: ClassVar[str] = "VeraConfig"
    dropout_of_peft: ClassVar[str] = "vera_dropout"
