"""The YAML files of the training recipes. Paths are relative to the directory in which the recipe is started."""

import math
import re
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from mmpt.config import Schema
from mmpt.data.cache import MAX_BYTES
from mmpt.data.loading.config import LongDocuments
from mmpt.data.shards.tokens import MediumKind
from mmpt.model.adapters import Adapter
from mmpt.model.adapters.lora import Lora
from mmpt.model.config import BackboneConfig, FeatureInputConfig, KernelsConfig
from mmpt.training.parts import Part

RESERVED = {
    "train_batch_size": "packs_per_step",
    "train_micro_batch_size_per_gpu": "packs_per_step",
    "gradient_accumulation_steps": "packs_per_step",
    "gradient_clipping": "gradient_clip",
    "optimizer": "learning_rate, betas, weight_decay",
    "scheduler": "schedule, warmup_steps",
}
STAGES = (0, 1, 2, 3)


class DataSource(Schema):
    """A folder of token shards, a path or an fsspec URL, how often an epoch passes over it (2.5: twice, and a random half once
    more) or, in place of that, how many `tokens` of it an epoch holds, and the factor on the loss of its documents (`loss`; 0:
    read, never learned)."""

    path: str
    weight: float = pydantic.Field(default=1.0, gt=0)
    tokens: float | None = pydantic.Field(default=None, gt=0)
    loss: float = pydantic.Field(default=1.0, ge=0)

    @pydantic.model_validator(mode="after")
    def _weight_or_tokens(self) -> "DataSource":
        if self.tokens is not None and "weight" in self.model_fields_set:
            raise ValueError("expected weight or tokens, not both")
        return self


class LoadingConfig(Schema):
    """How the loader packs and reads; see `mmpt.data.loading.loader.Loader`.

    `budgets`: tokens of each modality in an epoch; the weights of the sources then only say where to stay near. `cache`: the
    folder that keeps shards of remote sources, up to `cache_bytes`.
    """

    budgets: dict[str, float] = {}
    cache: Path | None = None
    cache_bytes: int = pydantic.Field(default=MAX_BYTES, ge=1)
    max_images: int | None = pydantic.Field(default=None, ge=1)
    long_documents: LongDocuments = "split"
    workers: int = pydantic.Field(default=1, ge=0)
    timeout: float | None = pydantic.Field(default=300.0, gt=0)
    max_lost: float = pydantic.Field(default=0.01, ge=0, le=1)


class ModalityWeights(Schema):
    """Factor on the loss of each target by its modality; 0: read, never learned."""

    text: float = pydantic.Field(default=1.0, ge=0)
    special: float = pydantic.Field(default=1.0, ge=0)
    image: float = pydantic.Field(default=1.0, ge=0)
    speech: float = pydantic.Field(default=1.0, ge=0)


class OptimizationConfig(Schema):
    """What every training under DeepSpeed shares.

    `optimizer: muon` trains the matrices of hidden layers by Muon and the rest by AdamW, at the same learning rate (see
    `mmpt.training.muon`); it needs ZeRO stage 0. `min_learning_rate` and `warmup_from`, where the warm-up starts, are fractions
    of `learning_rate`; `decay_steps` is the length of the last phase of `schedule: wsd` and `infinite`, `cooldown_steps` that of
    the second phase of `infinite`.
    `precision: bfloat16` takes matrix products in bfloat16 (autocast) over float32 weights; `auto` does so where the device
    multiplies bfloat16 natively. `tensorboard`: the metrics also as OUTPUT/tensorboard. `deepspeed` goes to DeepSpeed as it is
    (ZeRO stages 0 to 3), but for the keys that mmpt sets. Where no rank moves on for `stall_timeout` seconds, all end, and the
    one that is behind is named; null: they wait.
    """

    steps: int = pydantic.Field(ge=1)
    learning_rate: float = pydantic.Field(gt=0)
    optimizer: Literal["adamw", "muon"] = "adamw"
    min_learning_rate: float = pydantic.Field(default=0.1, ge=0, le=1)
    warmup_steps: int = pydantic.Field(default=0, ge=0)
    warmup_from: float = pydantic.Field(default=0.0, ge=0, le=1)
    cooldown_steps: int | None = pydantic.Field(default=None, ge=1)
    decay_steps: int | None = pydantic.Field(default=None, ge=1)
    schedule: Literal["cosine", "linear", "constant", "wsd", "infinite"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = pydantic.Field(default=0.1, ge=0)
    gradient_clip: float = pydantic.Field(default=1.0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = pydantic.Field(default=0, ge=0)
    save_every: int = pydantic.Field(default=1000, ge=1)
    keep: int = pydantic.Field(default=2, ge=1)
    log_every: int = pydantic.Field(default=10, ge=1)
    tensorboard: bool = False
    stall_timeout: float | None = pydantic.Field(default=1800.0, gt=0)
    deepspeed: dict = {}

    @pydantic.field_validator("betas")
    @classmethod
    def _betas(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("expected two numbers of at least 0 and below 1")
        return betas

    @pydantic.field_validator("deepspeed")
    @classmethod
    def _deepspeed(cls, options: dict) -> dict:
        problems = [f"{key} is set by mmpt from {source}" for key, source in RESERVED.items() if key in options]
        zero, half, fp16 = (options.get(name, {}) for name in ("zero_optimization", "bf16", "fp16"))
        examples = {"zero_optimization": "{stage: 2}", "bf16": "{enabled: true}", "fp16": "{enabled: false}"}
        problems += [
            f"{name}: expected a section such as {example}, found {options[name]!r}"
            for name, example in examples.items()
            if name in options and not isinstance(options[name], dict)
        ]
        if problems:
            raise ValueError("; ".join(problems))
        stage = zero.get("stage", 0)
        if stage not in STAGES or not isinstance(stage, int) or isinstance(stage, bool):
            problems.append(f"ZeRO stage {stage} is not supported, expected one of {', '.join(map(str, STAGES))}")
        problems += [f"zero_optimization.{key} is not supported" for key in ("offload_optimizer", "offload_param") if key in zero]
        problems += [
            f"{name}.enabled: expected true or false, found {section['enabled']!r}"
            for name, section in (("bf16", half), ("fp16", fp16))
            if not isinstance(section.get("enabled", False), bool)
        ]
        if fp16.get("enabled"):
            problems.append("fp16 is not supported, use bf16 or float32")
        if half.get("enabled") and stage == 0:
            problems.append("bf16 needs ZeRO stage 1, 2 or 3, which keep float32 master weights")
        if problems:
            raise ValueError("; ".join(problems))
        return options

    @pydantic.model_validator(mode="after")
    def _whole_matrices(self) -> "OptimizationConfig":
        if self.optimizer == "muon" and self.zero_stage:
            raise ValueError(f"optimizer: muon needs whole matrices, ZeRO stage {self.zero_stage} cuts them up; expected stage 0")
        return self

    @pydantic.model_validator(mode="after")
    def _schedule(self) -> "OptimizationConfig":
        if self.warmup_steps >= self.steps and self.warmup_steps > 0:
            raise ValueError(f"warmup_steps is {self.warmup_steps}, expected fewer than steps ({self.steps})")
        if self.schedule == "wsd" and self.decay_steps is None:
            raise ValueError("schedule: wsd needs decay_steps")
        if self.decay_steps is not None and self.schedule not in ("wsd", "infinite"):
            raise ValueError("decay_steps goes with schedule: wsd or infinite, and only with them")
        if (self.cooldown_steps is not None) != (self.schedule == "infinite"):
            raise ValueError("cooldown_steps goes with schedule: infinite, and only with it")
        if self.warmup_steps + (self.cooldown_steps or 0) + (self.decay_steps or 0) > self.steps:
            raise ValueError("warmup_steps + cooldown_steps + decay_steps is more than steps")
        return self

    @property
    def zero_stage(self) -> int:
        return self.deepspeed.get("zero_optimization", {}).get("stage", 0)


class TrainingConfig(OptimizationConfig):
    """What both recipes share.

    `output`: the run folder (checkpoints/, metrics.jsonl); a run that finds checkpoints there goes on from the newest whole one.
    `text_tokenizer`, `speech_tokenizer`, `image_tokenizer`: folders copied into each checkpoint, so that it is self-contained.
    A step is `packs_per_step` packs of at most `pack_tokens` tokens over all ranks; `sequence_parallel` neighbouring ranks share
    each pack, for packs too long for one. `tokens` in place of `steps`: as many steps as that many tokens fill. `parts`: factors
    on the learning rate of parts of the model (see `mmpt.training.parts`), 0: it rests. `activation_checkpointing` keeps of each
    layer its input alone and computes the rest again. `compile`: torch.compile on the MLP of each layer. `skip_steps`: numbers of
    steps whose documents are left out; `max_skipped`: so many steps whose loss or gradient is not finite are left out too, each
    listed in OUTPUT/skipped.jsonl, before one ends the run. `features`: encoder and connector of each kind of media that enters
    as continuous features
    (`image`, `speech`); `features_from`: a checkpoint or run folder whose connectors go on learning, in place of them. `stages`:
    runs one after the other, each a mapping of a `name` and of what is different in it (sections key by key).
    """

    output: Path
    data: list[DataSource] = pydantic.Field(min_length=1)
    text_tokenizer: Path | None = None
    speech_tokenizer: Path | None = None
    image_tokenizer: Path | None = None
    loading: LoadingConfig = LoadingConfig()
    pack_tokens: int = pydantic.Field(ge=2)
    packs_per_step: int = pydantic.Field(ge=1)
    sequence_parallel: int = pydantic.Field(default=1, ge=1)
    parts: dict[Part, Annotated[float, pydantic.Field(ge=0)]] = {}
    activation_checkpointing: bool = False
    compile: bool = False
    kernels: KernelsConfig = KernelsConfig()
    """What computes the parts of the decoder."""
    skip_steps: list[int] = []
    max_skipped: int = pydantic.Field(default=0, ge=0)
    features: dict[MediumKind, FeatureInputConfig] = {}
    features_from: Path | None = None
    stages: list[dict] = []
    modality_weights: ModalityWeights = ModalityWeights()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _tokens_or_steps(cls, content: object) -> object:
        if not isinstance(content, dict) or "tokens" not in content:
            return content
        content = dict(content)
        tokens = content.pop("tokens")
        if "steps" in content:
            raise ValueError("expected steps or tokens, not both")
        try:
            packs = float(tokens) / (content["packs_per_step"] * content["pack_tokens"])
            return {**content, "steps": math.ceil(packs)}
        except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError):
            raise ValueError("tokens: expected a number, with pack_tokens and packs_per_step beside it") from None

    @pydantic.model_validator(mode="after")
    def _one_origin_of_features(self) -> "TrainingConfig":
        if self.features and self.features_from:
            raise ValueError("expected features or features_from, not both")
        if (self.features or self.features_from) and self.sequence_parallel > 1:
            raise ValueError("features do not go with sequence_parallel")
        return self

    @pydantic.model_validator(mode="after")
    def _one_compiler(self) -> "TrainingConfig":
        if self.compile and self.kernels.swiglu not in ("auto", "plain"):
            raise ValueError(f"kernels.swiglu: {self.kernels.swiglu} does not go with compile: true, which compiles those MLPs")
        return self

    @pydantic.field_validator("stages")
    @classmethod
    def _names(cls, stages: list[dict]) -> list[dict]:
        names = [stage.get("name") for stage in stages]
        if any(not isinstance(name, str) or not re.fullmatch(r"[\w-]+", name) for name in names) or len(set(names)) < len(names):
            raise ValueError("expected a name in each, different ones, of letters, digits, - and _")
        if any({"output", "stages", "backbone", "from"} & set(stage) for stage in stages[1:]):
            raise ValueError("output, stages, backbone and from are set by mmpt after the first stage")
        return stages

    @pydantic.model_validator(mode="after")
    def _last_step_is_trained(self) -> "TrainingConfig":
        if any(not 1 <= step < self.steps for step in self.skip_steps):
            raise ValueError(f"skip_steps: {self.skip_steps}, expected steps from 1 to {self.steps - 1}")
        return self

    @property
    def tokenizers(self) -> dict[str, Path]:
        """Name of the subfolder in a checkpoint → the folder to copy there."""
        names = ("text_tokenizer", "speech_tokenizer", "image_tokenizer")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class PretrainConfig(TrainingConfig):
    """recipes/pretrain.py: every weight of `backbone` is trained."""

    backbone: BackboneConfig

    @pydantic.model_validator(mode="after")
    def _layers_that_compile(self) -> "PretrainConfig":
        if self.compile and not self.backbone.linear.compiles:
            raise ValueError(f"backbone.linear: {self.backbone.linear.kind} does not go with compile: true")
        return self


class FinetuneConfig(TrainingConfig):
    """recipes/finetune.py: adapters, the rows of new tokens, or both, on a frozen backbone.

    The backbone is that of the checkpoint `from` (of a run folder: its newest), whose tokenizers are taken where none are given
    and whose adapters and new rows, where it has some, go on learning; or `backbone`, a text model with a `path`, whose rows
    beyond the text tokenizer's ids are new. `adapter: null`: none. `new_rows`: every row beyond the text's learns, in tables of
    their own.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    base: Path | None = pydantic.Field(default=None, alias="from")
    backbone: BackboneConfig | None = None
    adapter: Adapter | None = Lora()
    new_rows: bool = False

    @pydantic.model_validator(mode="after")
    def _something_learns(self) -> "FinetuneConfig":
        if (self.base is None) == (self.backbone is None):
            raise ValueError("expected exactly one of from and backbone")
        if self.backbone is not None and self.backbone.path is None:
            raise ValueError("backbone.path: missing; a backbone from backbone.config has nothing worth freezing")
        if self.backbone is not None and self.backbone.linear.kind != self.backbone.linear.default_kind:
            raise ValueError("backbone.linear: a frozen backbone has no use for it")
        if self.backbone is not None and not self.new_rows:
            raise ValueError("backbone goes with new_rows: true, else the rows of new tokens would never learn")
        if self.adapter is None and not (self.new_rows or self.features or self.features_from):
            raise ValueError("adapter: null, new_rows: false and no features: nothing learns")
        return self


class FitConfig(OptimizationConfig):
    """`batch_size` examples a step over all ranks."""

    batch_size: int = pydantic.Field(ge=1)
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = pydantic.Field(default=0.01, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    save_every: int = pydantic.Field(default=500, ge=1)
    log_every: int = pydantic.Field(default=20, ge=1)

    @pydantic.field_validator("deepspeed")
    @classmethod
    def _whole_weights(cls, options: dict) -> dict:
        # Their losses read weights outside of the modules that hold them, where ZeRO 3 has left nothing.
        if options.get("zero_optimization", {}).get("stage", 0) > 2:
            raise ValueError("ZeRO stage 3 is not supported for tokenizers, expected one of 0, 1, 2")
        return options
