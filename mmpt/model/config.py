"""Settings of the decoder, its adapters, and the encoders and connectors before it, apart from their modules: a recipe is checked
before torch is loaded."""

from typing import Literal

import pydantic

from mmpt.config import Schema
from mmpt.tokenizers.image.towers import Tower

Growth = Literal["mean", "multivariate", "convex_hull", "constrained_word2vec"]


class BackboneConfig(Schema):
    """Where the decoder comes from: exactly one of two.

    `path`: a Hugging Face name or a folder, loaded with its weights. `config`: a mapping for a transformers configuration
    (`model_type: qwen3`, `hidden_size: 256`, …; the keys of a published config.json too), initialised at random; `vocab_size` is
    set by mmpt. `growth`: how the rows of new tokens start beside those of `path`, see `mmpt.model.growth.new_rows`.
    """

    path: str | None = None
    config: dict | None = None
    growth: Growth = "mean"

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> "BackboneConfig":
        if (self.path is None) == (self.config is None):
            raise ValueError("expected exactly one of path and config")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError("config: model_type is missing")
        if self.config is not None and "vocab_size" in self.config:
            raise ValueError("config: vocab_size is set from the vocabulary, leave it out")
        return self


class AdapterConfig(Schema):
    """Rank, scale (`alpha` / `rank`), dropout, and the layers: names of linear layers, or `all-linear` (all but the head)."""

    rank: int = pydantic.Field(default=16, ge=1)
    alpha: float = pydantic.Field(default=32.0, gt=0)
    dropout: float = pydantic.Field(default=0.0, ge=0, lt=1)
    targets: str | list[str] = "all-linear"


class PictureFeaturesConfig(Schema):
    """Pictures squashed to `side` × `side` through a frozen tower."""

    side: int
    tower: Tower

    @pydantic.field_validator("tower")
    @classmethod
    def _published(cls, tower: Tower) -> Tower:
        if not tower.frozen:
            raise ValueError(f"kind: {tower.kind} has no published weights, expected a tower that has")
        return tower


class WhisperFeaturesConfig(Schema):
    """Sound through a frozen Whisper encoder: a folder or Hugging Face name."""

    whisper: str


FeaturesConfig = PictureFeaturesConfig | WhisperFeaturesConfig


class ConnectorConfig(Schema):
    """`rows`: how many a `resampler` or `qformer` gives, by `depth` blocks of `width` (by default the encoder's) and `heads`.
    `factor`: side of the squares that `pixel_shuffle` joins. `start_token`: a learned row is put in front (eP-ALM, Shukor et al.
    2023, arXiv:2303.11403)."""

    kind: Literal["linear", "mlp", "pixel_shuffle", "resampler", "qformer"] = "mlp"
    rows: int = pydantic.Field(default=64, ge=1)
    depth: int = pydantic.Field(default=2, ge=1)
    width: int | None = pydantic.Field(default=None, ge=1)
    heads: int = pydantic.Field(default=8, ge=1)
    factor: int = pydantic.Field(default=2, ge=1)
    start_token: bool = False

    @pydantic.model_validator(mode="after")
    def _width_fits(self) -> "ConnectorConfig":
        if self.width is not None and self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class FeatureInputConfig(Schema):
    """The frozen `encoder` of a kind of media, and the `connector` from its features to rows of the decoder."""

    encoder: FeaturesConfig
    connector: ConnectorConfig = ConnectorConfig()
