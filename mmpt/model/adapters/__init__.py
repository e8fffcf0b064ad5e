"""Adapters: a few weights beside a frozen decoder's, by the tuners of peft that start as the identity and merge into the weights.

Left out, each for what it needs beside a configuration: AdaLoRA (a call after every step that shares out its ranks); OSF, PSOFT,
AdaMSS, FRoD and TinyLoRA (their files hold no factors of the frozen weights, which loading decomposes anew, with other signs on
another machine); VB-LoRA and UniLoRA (they do not start as the identity); Lily and BEFT (they do not merge); prompts and
prefixes (they stand in front of a model of peft, inside which mmpt calls the decoder).
"""

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mmpt.methods import Method

if TYPE_CHECKING:
    from peft import PeftConfig


class Adapter(Method):
    """How a frozen decoder is adapted. `settings_of_peft`: the name of peft's class of settings, which `options` fills."""

    key: ClassVar[str] = "adapter"
    default_kind: ClassVar[str] = "lora"
    settings_of_peft: ClassVar[str]

    targets: str | list[str] = "all-linear"
    """The layers: the ends of their names (`[q_proj, v_proj]`), or `all-linear`: every linear one but the head."""

    base: Literal["whole", "nf4"] = "whole"
    """How the matrices of the decoder's layers are held while the adapters learn. nf4: in four bits each (QLoRA, Dettmers et al.
    2023, arXiv:2305.14314; by bitsandbytes); checkpoints have them as they were before."""

    @abstractmethod
    def options(self, seed: int) -> dict[str, Any]:
        """The arguments of peft's class beside the targets. `seed`: for what it draws from a generator of its own."""

    def peft_config(self, seed: int) -> "PeftConfig":
        """peft's settings for a decoder. Raises `ValueError` or `TypeError` where peft takes no such values."""
        import peft

        targets = self.targets if isinstance(self.targets, str) else list(self.targets)
        settings = getattr(peft, self.settings_of_peft)
        return settings(task_type="CAUSAL_LM", target_modules=targets, **self.options(seed))
