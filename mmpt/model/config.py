"""Settings of the decoder, its adapters, and the encoders and connectors before it, apart from their modules: a recipe is checked
before torch is loaded."""

from typing import Any, Literal

import pydantic

from mmpt.config import Schema
from mmpt.data.tiles import Tiles
from mmpt.model.changes import Change
from mmpt.model.connectors import Connector
from mmpt.model.connectors.mlp import Mlp
from mmpt.model.entries import Entry
from mmpt.model.entries.cross import Cross
from mmpt.model.entries.rows import Rows
from mmpt.model.linears import LinearLayer
from mmpt.model.linears.dense import Dense
from mmpt.model.reducers import Reducer
from mmpt.model.row_init import RowInitialization
from mmpt.model.row_init.mean import Mean
from mmpt.tokenizers.image.towers import PublishedTower

FusedKernel = Literal["auto", "plain", "torch", "triton"]


class KernelsConfig(Schema):
    """What computes the parts of a decoder in training. A kernel that is named and cannot run is an error."""

    norm: FusedKernel = "auto"
    """Of every RMSNorm. auto: the fused Triton kernel on a GPU, elsewhere what transformers has; plain: what transformers has;
    torch: one function with a backward pass of its own, of PyTorch operations, on any device; triton: the fused kernel."""

    rope: FusedKernel = "auto"
    """Of the rotary position embedding of queries and keys; values as of `norm`."""

    swiglu: FusedKernel = "auto"
    """Of the activation of gated MLPs with SiLU; values as of `norm`. With `compile: true`, auto leaves it to the compiler."""

    attention: Literal["auto", "documents", "varlen", "xformers", "flex", "dense"] = "auto"
    """Back end of the packed attention. auto: the fastest that can run; documents: one document after the other; varlen:
    PyTorch's over documents of any lengths (GPU); xformers: its memory-efficient attention (GPU); flex: PyTorch's FlexAttention
    (GPU); dense: one mask over the whole row, for checks."""


class BackboneConfig(Schema):
    """Where the decoder comes from: exactly one of `path` and `config`."""

    path: str | None = None
    """A Hugging Face name or a folder, loaded with its weights."""

    config: dict[str, Any] | None = None
    """A transformers configuration (`model_type: qwen3`, `hidden_size: 256`, …; the keys of a published config.json too),
    initialised at random; `vocab_size` is set by mmpt."""

    row_init: RowInitialization = Mean()
    """How the rows of new tokens start beside those of `path`."""

    linear: LinearLayer = Dense()
    """What stands in the decoder's layers in place of plain matrices while they learn from scratch."""

    change: list[Change] = []
    """What is changed of `path` as it is loaded for the first time, one after the other."""

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> "BackboneConfig":
        if (self.path is None) == (self.config is None):
            raise ValueError("expected exactly one of path and config")
        if self.change and (self.path is None or self.linear.kind != self.linear.default_kind):
            raise ValueError("change: it goes with path, and with plain matrices")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError("config: model_type is missing")
        if self.config is not None and "vocab_size" in self.config:
            raise ValueError("config: vocab_size is set from the vocabulary, leave it out")
        return self


class PictureFeaturesConfig(Schema):
    """Pictures squashed to a square, through a frozen tower."""

    side: int
    """Of the square, in pixels."""

    tower: PublishedTower
    """A vision tower with published weights."""


class WhisperFeaturesConfig(Schema):
    """Sound through a frozen Whisper encoder."""

    whisper: str
    """A folder or Hugging Face name."""

    by_duration: bool = False
    """Only the rows of what is heard, in place of those of the whole window (30 s) that Whisper pads to. For connectors whose
    rows follow time: linear and mlp."""


FeaturesConfig = PictureFeaturesConfig | WhisperFeaturesConfig


class FeatureInputConfig(Schema):
    """How media of a kind enter the decoder as continuous features."""

    encoder: FeaturesConfig
    """The frozen encoder that makes features of them."""

    reduce: Reducer | None = None
    """What leaves fewer features of each view before the connector; null: all of them stay."""

    connector: Connector = Mlp()
    """What makes rows of the decoder's width of the features."""

    enters: Entry = Rows()
    """Where the rows come into the decoder."""

    tiles: Tiles | None = None
    """How pictures are cut into tiles, each with rows of its own; null: one view, squashed to a square. The token shards are made
    with the same."""

    @pydantic.model_validator(mode="after")
    def _fits(self) -> "FeatureInputConfig":
        if self.tiles is not None and not isinstance(self.encoder, PictureFeaturesConfig):
            raise ValueError("tiles: they are of pictures")
        varied = next((name for name in ("tiles", "by_duration", "reduce") if getattr(self, name)), None)
        if varied and self.enters.kind == "layers":
            raise ValueError(f"enters: layers has one slot for each medium, so {varied} does not go with it")
        if isinstance(self.enters, Cross) and self.enters.whole_as_rows and (self.tiles is None or not self.tiles.thumbnail):
            raise ValueError("enters: whole_as_rows goes with tiles and their thumbnail")
        if self.by_duration and self.enters.kind == "cross":
            raise ValueError("enters: cross has one slot for each view, so by_duration does not go with it")
        if self.by_duration and self.reduce is not None and not self.reduce.in_order:
            raise ValueError("reduce: by_duration goes with {kind: pool, over: line} alone")
        if self.by_duration and not self.connector.in_order:
            raise ValueError(f"connector: {self.connector.kind} mixes all features, so by_duration does not go with it")
        return self

    @property
    def by_duration(self) -> bool:
        """Whether an utterance has as many rows as it is long."""
        return isinstance(self.encoder, WhisperFeaturesConfig) and self.encoder.by_duration
