"""The module of `OpenClip`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from mmpt.errors import ConfigError
from mmpt.layers.resting import at_rest
from mmpt.tokenizers.image.tower import FrozenTower
from mmpt.tokenizers.image.towers._positions import resampled
from mmpt.tokenizers.image.towers._timm import feature_rows
from mmpt.tokenizers.image.towers.open_clip import OpenClip


class OpenClipTower(FrozenTower):
    """The image side of an open_clip model: `forward` gives features [B, patches, width], `embed` its image embeddings."""

    model: Any  # a model of open_clip: its methods are not those of nn.Module

    def __init__(self, side: int, config: OpenClip, pretrained: bool):
        try:
            if pretrained and config.pretrained:
                model = _published(config.model, config.pretrained, side)
            else:
                model = _untrained(config.model, side)
            super().__init__(model, *_statistics(config.model, config.pretrained, model))
            # Where patches are pooled by attention, the last norm is of what is pooled, not of patches.
            self._normed = getattr(model, "attn_pool", None) is None
            self._maps = _gives_maps(model, side)
            self.width = self(torch.zeros(1, 3, side, side)).shape[-1]
            self.embedding_width = self.embed(torch.zeros(1, 3, side, side)).shape[-1]
        except Exception as problem:  # open_clip raises whatever its models and the hub raise
            raise ConfigError(f"tower: open_clip's {config.model!r} cannot be used with side {side}: {problem}") from None

    @at_rest
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        if (trunk := getattr(self.model, "trunk", None)) is not None:  # a model of timm
            return feature_rows(trunk, trunk.forward_features(self.normalized(pixels)))[
                :, getattr(trunk, "num_prefix_tokens", 0) :
            ]
        found = self._intermediates(pixels, 1, normalize_intermediates=self._normed)["image_intermediates"][-1]
        return found.flatten(2).transpose(1, 2) if self._maps else found

    @torch.no_grad()
    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """[B, embedding_width] of pixels [B, 3, side, side], as the model's own `encode_image` gives them, of any length."""
        found = self.model(self.normalized(pixels))
        return found[0] if isinstance(found, tuple) else found

    @torch.no_grad()
    def layer_states(self, pixels: torch.Tensor, layers: list[int]) -> list[torch.Tensor]:
        found = self._intermediates(pixels, layers, output_extra_tokens=not self._maps)
        patches = found["image_intermediates"]
        if self._maps:
            return [part.mean(dim=(2, 3)) for part in patches]
        prefixes = found.get("image_intermediates_prefix", [None] * len(patches))
        pairs = zip(patches, prefixes, strict=True)
        return [part.mean(dim=1) if prefix is None or not prefix.shape[1] else prefix[:, 0] for part, prefix in pairs]

    def _intermediates(self, pixels: torch.Tensor, layers: int | list[int], **asked: Any) -> dict[str, list[torch.Tensor]]:
        fmt = "NCHW" if self._maps else "NLC"
        return self.model.forward_intermediates(
            self.normalized(pixels), indices=layers, intermediates_only=True, output_fmt=fmt, **asked
        )


def _published(name: str, weights: str, side: int) -> Any:
    """The image side with `weights`: a tag of the model, or a file."""
    import open_clip

    known: Any = open_clip.get_model_config(name)
    residual = known is not None and isinstance(known["vision_cfg"].get("layers"), list)
    # open_clip resamples the positions of its transformers, not those with which a residual network pools.
    forced: dict[str, Any] = {} if residual else {"force_image_size": side}
    whole: Any = open_clip.create_model(name, pretrained=weights, weights_only=True, **forced)
    if known is None or not residual or side == known["vision_cfg"]["image_size"]:
        return whole.visual
    visual = _untrained(name, side)
    visual.load_state_dict(resampled(whole.visual.state_dict(), visual.state_dict()))
    return visual


def _untrained(name: str, side: int) -> Any:
    """The image side, whose weights the caller reads. No text side is built, for which some models ask the hub."""
    import open_clip

    known: Any = open_clip.get_model_config(name)
    if known is None:  # one of the hub, or of a folder
        whole: Any = open_clip.create_model(name, load_weights=False, force_image_size=side)
        return whole.visual
    vision = open_clip.CLIPVisionCfg(**{**known["vision_cfg"], "image_size": side, "timm_model_pretrained": False})
    text = open_clip.CLIPTextCfg(context_length=1, vocab_size=1, width=1, heads=1, layers=1)
    visual: Any = open_clip.CLIP(known["embed_dim"], vision, text, quick_gelu=known.get("quick_gelu", False)).visual
    if vision.timm_model_name:  # a transformer of timm resamples its positions
        visual.set_input_size(side)
    return visual


def _gives_maps(model: Any, side: int) -> bool:
    """Whether it gives its features as maps [B, width, H, W] alone, as convolutional networks do."""
    try:
        with torch.no_grad():
            model.eval().forward_intermediates(
                torch.zeros(1, 3, side, side), indices=1, intermediates_only=True, output_fmt="NLC"
            )
    except AssertionError:  # what open_clip and timm say of another format
        return True
    return False


def _statistics(name: str, pretrained: str | None, model: nn.Module) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation of the pixels that an open_clip model was trained on, as it knows them of its published weights: those
    of the tag, else of the model's first. To weights of a file, or none, it would give CLIP's, which are not SigLIP's."""
    import open_clip

    own: Any = model
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag = pretrained if pretrained in tags else next(iter(tags), None)
    published: Any = open_clip.get_pretrained_cfg(name, tag) if tag else {}
    mean, deviation = published.get("mean"), published.get("std")
    return (
        tuple(mean or getattr(own, "image_mean", open_clip.OPENAI_DATASET_MEAN)),
        tuple(deviation or getattr(own, "image_std", open_clip.OPENAI_DATASET_STD)),
    )
