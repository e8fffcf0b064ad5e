from typing import ClassVar

from mmpt.model.adapters._vectors import VectorAdapter


class Pvera(VectorAdapter):
    """VeRA whose low-rank part is a Gaussian, drawn from in training and at its mean otherwise (Fillioux et al. 2025,
    arXiv:2512.07703)."""

    settings_of_peft: ClassVar[str] = "PveraConfig"
    dropout_of_peft: ClassVar[str] = "pvera_dropout"
