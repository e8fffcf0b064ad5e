"""The shape of a decoder of CosyVoice's lineage, from the config.yaml that it was released with.

That file is HyperPyYAML: its tags name classes and calls. Here nothing is called: of `!new:module.Class` the class becomes the
key `class` of its section, `!ref <name>` is the value of that top-level key, and every other tag is as if it were not there.
"""

import re
from pathlib import Path
from typing import Any, Literal

import pydantic
import yaml

from mmpt.config import Schema, parse_config
from mmpt.errors import CheckpointError, ConfigError


class _Released(Schema):
    """What is read of a section; it holds more, for training."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class EncoderShape(_Released):
    """A conformer without convolutions, whose attention sees blocks of `block_size` codes and what lies before."""

    made_by: Literal["BlockConformerEncoder"] = pydantic.Field(alias="class")
    input_size: int
    output_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int
    block_size: pydantic.PositiveInt
    normalize_before: Literal[True]
    use_cnn_module: Literal[False]
    macaron_style: Literal[False]
    input_layer: Literal["linear"]
    pos_enc_layer_type: Literal["rel_pos_espnet"]
    selfattention_layer_type: Literal["block_rel_selfattn"]
    activation_type: Literal["swish"] = "swish"


class RegulatorShape(_Released):
    """Convolutions over states that were repeated to the rate of mel frames."""

    made_by: Literal["InterpolateRegulator"] = pydantic.Field(alias="class")
    channels: int
    sampling_ratios: list[int]


class EstimatorShape(_Released):
    """A U-Net of convolutions and transformer blocks."""

    made_by: Literal["ConditionalDecoder"] = pydantic.Field(alias="class")
    in_channels: int
    out_channels: int
    channels: list[int]
    attention_head_dim: int
    n_blocks: int
    num_mid_blocks: int
    num_heads: int
    act_fn: Literal["gelu"]


class PathShape(_Released):
    """How a path from noise to a mel is followed."""

    t_scheduler: Literal["cosine"]
    solver: Literal["euler"]
    inference_cfg_rate: float


class _Content(_Released):
    content: PathShape


class MatchingShape(_Released):
    """Conditional flow matching."""

    made_by: Literal["ConditionalCFM"] = pydantic.Field(alias="class")
    cfm_params: _Content
    estimator: EstimatorShape


class FlowShape(_Released):
    """Codes to mels."""

    made_by: Literal["MaskedDiffWithXvec"] = pydantic.Field(alias="class")
    input_size: int
    output_size: int
    spk_embed_dim: int
    vocab_size: int
    input_frame_rate: pydantic.PositiveFloat
    encoder: EncoderShape
    length_regulator: RegulatorShape
    decoder: MatchingShape


class PitchShape(_Released):
    """Mels to the pitch of each frame."""

    made_by: Literal["ConvRNNF0Predictor"] = pydantic.Field(alias="class")
    num_class: Literal[1]
    in_channels: int
    cond_channels: int


class SpectrumShape(_Released):
    """Of the spectrum that becomes sound, in samples."""

    n_fft: int
    hop_len: int


class HiftShape(_Released):
    """Mels to sound."""

    made_by: Literal["HiFTGenerator"] = pydantic.Field(alias="class")
    in_channels: int
    base_channels: int
    nb_harmonics: int
    sampling_rate: pydantic.PositiveInt
    nsf_alpha: float
    nsf_sigma: float
    nsf_voiced_threshold: float
    upsample_rates: list[pydantic.PositiveInt]
    upsample_kernel_sizes: list[int]
    istft_params: SpectrumShape
    resblock_kernel_sizes: list[int]
    resblock_dilation_sizes: list[list[int]]
    source_resblock_kernel_sizes: list[int]
    source_resblock_dilation_sizes: list[list[int]]
    lrelu_slope: float
    audio_limit: float
    f0_predictor: PitchShape

    @property
    def hop(self) -> int:
        """Samples of a mel frame."""
        hop = self.istft_params.hop_len
        for rate in self.upsample_rates:
            hop *= rate
        return hop


class DecoderShape(_Released):
    """Both parts."""

    flow: FlowShape
    hift: HiftShape


def decoder_shape(content: dict[str, Any], name: str) -> DecoderShape:
    """That of the sections `content`; `name` stands for them in messages. Raises `CheckpointError` with all that is not known."""
    try:
        return parse_config(content, DecoderShape, name)
    except ConfigError as problem:
        raise CheckpointError(f"{problem} (as THUDM/glm-4-voice-decoder has it)") from None


def released_sections(path: Path) -> dict[str, Any]:
    """The sections `flow` and `hift` of a released config.yaml, as plain values. Raises `CheckpointError` naming the file."""
    try:
        content = _Plain(path.read_text(encoding="utf-8")).get_single_data()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise CheckpointError(f"{path}: cannot be read ({' '.join(str(problem).split())})") from None
    if not isinstance(content, dict) or not all(isinstance(content.get(name), dict) for name in ("flow", "hift")):
        raise CheckpointError(f"{path}: expected the sections flow and hift, as THUDM/glm-4-voice-decoder has them")
    found = {name: _with_values(content[name], content) for name in ("flow", "hift")}
    decoder_shape(found, str(path))
    return found


class _Plain(yaml.SafeLoader):
    """YAML without the meaning of tags."""


def _untagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        values = loader.construct_mapping(node, deep=True)
        return {"class": tag.rpartition(".")[2], **values} if tag.startswith("new:") else values
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # pyright: ignore[reportArgumentType] (a node is one of three)


_Plain.add_multi_constructor("!", _untagged)


def _with_values(value: Any, top: dict[str, Any]) -> Any:
    """`value` with the values of `top` in the place of their names in <>."""
    if isinstance(value, dict):
        return {key: _with_values(one, top) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_values(one, top) for one in value]
    name = re.fullmatch(r"<(\w+)>", value) if isinstance(value, str) else None
    found = top.get(name[1]) if name else None
    return found if isinstance(found, int | float | str) else value
