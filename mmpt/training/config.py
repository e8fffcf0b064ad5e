"""The YAML files of a training: each section belongs to one component. Paths are relative to the directory in which the recipe is
started."""

import itertools
import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pydantic

from mmpt.config import Schema
from mmpt.data.cache import MAX_BYTES
from mmpt.data.loading.config import LongDocuments, packs_of_step
from mmpt.data.shards.tokens import MediumKind
from mmpt.modality import MODALITIES, tokenizer_folder
from mmpt.model.adapters import Adapter
from mmpt.model.config import BackboneConfig, FeatureInputConfig, KernelsConfig
from mmpt.training.deepspeed_section import mistakes
from mmpt.training.evaluate_config import EvaluateConfig
from mmpt.training.objectives import Objective
from mmpt.training.objectives.next_token import NextToken
from mmpt.training.objectives.router_balance import RouterBalance
from mmpt.training.optimizers import Optimizer
from mmpt.training.run_config import RunConfig
from mmpt.training.schedules import Schedule
from mmpt.training.schedules.cosine import Cosine

Precision = Literal["auto", "float32", "bfloat16"]


class TrainerConfig(Schema):
    """What every training under DeepSpeed has."""

    steps: int = pydantic.Field(ge=1)
    """Updates of the weights."""
    optimizer: Optimizer
    """What makes an update of a gradient, and its learning rate."""
    schedule: Schedule = Cosine()
    """The learning rate over the steps."""
    precision: Precision = "auto"
    """bfloat16: matrix products in bfloat16 (autocast) over float32 weights; auto: so where the device multiplies bfloat16
    natively."""
    run: RunConfig = RunConfig()
    """Seed, checkpoints, log, and when the run ends."""
    deepspeed: dict[str, Any] = {}
    """Goes to DeepSpeed as it is (ZeRO stages 0 to 3), but for the keys that mmpt sets."""

    @pydantic.field_validator("deepspeed")
    @classmethod
    def _deepspeed(cls, options: dict[str, Any]) -> dict[str, Any]:
        if found := mistakes(options):
            raise ValueError("; ".join(found))
        return options

    @pydantic.model_validator(mode="after")
    def _components_agree(self) -> "TrainerConfig":
        if self.optimizer.whole_matrices and self.zero_stage:
            raise ValueError(
                f"optimizer: {self.optimizer.kind} needs whole matrices, ZeRO stage {self.zero_stage} cuts them up; "
                "expected stage 0"
            )
        self.schedule.check(self.steps)
        if any(not 1 <= step < self.steps for step in self.run.skip_steps):
            raise ValueError(f"run.skip_steps: {self.run.skip_steps}, expected steps from 1 to {self.steps - 1}")
        return self

    @property
    def zero_stage(self) -> int:
        return self.deepspeed.get("zero_optimization", {}).get("stage", 0)

    @property
    def half_weights(self) -> bool:
        """Whether weights are kept in bfloat16, with float32 masters beside them."""
        return bool(self.deepspeed.get("bf16", {}).get("enabled"))

    def learning_rate(self, step: int) -> float:
        """That of update `step`, counted from 1."""
        return self.optimizer.learning_rate * self.schedule.factor(step, self.steps)


class DataSource(Schema):
    """A folder of token shards, and how it enters an epoch."""

    path: str
    """The folder, or an fsspec URL."""
    weight: float = pydantic.Field(default=1.0, gt=0)
    """How often an epoch passes over it (2.5: twice, and a random half once more)."""
    tokens: float | None = pydantic.Field(default=None, gt=0)
    """In place of `weight`: how many of its tokens an epoch holds."""
    loss: float = pydantic.Field(default=1.0, ge=0)
    """Factor on the loss of its documents; 0: read, never learned."""
    begin: float = pydantic.Field(default=0.0, ge=0, lt=1, alias="from")
    """The share of the run from which on it is read. A folder may be named several times, with another weight in each phase: it
    goes on where it stood."""
    until: float = pydantic.Field(default=1.0, gt=0, le=1)
    """The share of the run until which it is read."""

    @pydantic.model_validator(mode="after")
    def _weight_or_tokens(self) -> "DataSource":
        if self.tokens is not None and "weight" in self.model_fields_set:
            raise ValueError("expected weight or tokens, not both")
        if self.begin >= self.until:
            raise ValueError(f"from is {self.begin:g}, expected less than until, {self.until:g}")
        return self


class RampStep(Schema):
    """The packs of the steps up to one."""

    until: int = pydantic.Field(ge=1)
    """The last step that has so many."""
    packs: int = pydantic.Field(ge=1)
    """In the place of `packs_per_step`."""


class LoaderConfig(Schema):
    """How the loader packs and reads; see `mmpt.data.loading.loader.Loader`."""

    pack_tokens: int = pydantic.Field(ge=2)
    """Tokens in a pack, one row of documents, at most."""
    packs_per_step: int = pydantic.Field(ge=1)
    """Packs of a step over all ranks; a multiple of their number."""
    ramp: list[RampStep] = []
    """Steps at the start that have other numbers of packs, such as smaller ones, in order."""
    sequence_parallel: int = pydantic.Field(default=1, ge=1)
    """So many neighbouring ranks share each pack, where one cannot hold it."""
    budgets: dict[str, float] = {}
    """Tokens of each modality in an epoch; the weights of the sources then only say where to stay near."""
    cache: Path | None = None
    """The folder that keeps shards of remote sources."""
    cache_bytes: int = pydantic.Field(default=MAX_BYTES, ge=1)
    """Bytes that `cache` holds at most."""
    max_images: int | None = pydantic.Field(default=None, ge=1)
    """Images in a pack at most, as codes or features; null: any number."""
    long_documents: LongDocuments = "split"
    """What becomes of documents longer than a pack: split (text at any token, images and utterances whole) or drop."""
    workers: int = pydantic.Field(default=1, ge=0)
    """Threads that read ahead."""
    timeout: float | None = pydantic.Field(default=300.0, gt=0)
    """Seconds without a pack after which the run ends; null: never."""
    max_lost: float = pydantic.Field(default=0.01, ge=0, le=1)
    """Share of documents that cannot be read, above which the run ends."""

    @pydantic.field_validator("ramp")
    @classmethod
    def _in_order(cls, ramp: list[RampStep]) -> list[RampStep]:
        if any(later.until <= one.until for one, later in itertools.pairwise(ramp)):
            raise ValueError(f"expected steps that grow in until, found {', '.join(str(one.until) for one in ramp)}")
        return ramp

    def packs(self, step: int) -> int:
        """Packs of step `step` (from 1) over all ranks."""
        return packs_of_step(step, self.packs_per_step, ((one.until, one.packs) for one in self.ramp))

    def steps(self, packs: float) -> int:
        """Steps that so many packs fill."""
        steps = 0
        for one in self.ramp:
            if packs <= (one.until - steps) * one.packs:
                return steps + math.ceil(packs / one.packs)
            packs, steps = packs - (one.until - steps) * one.packs, one.until
        return steps + math.ceil(packs / self.packs_per_step)


class Stage(Schema):
    """A run that follows the one before: a name, and what is different in it, section by section."""

    model_config = pydantic.ConfigDict(extra="allow")

    name: str
    """Of letters, digits, - and _: its folder in the run's."""

    @pydantic.field_validator("name")
    @classmethod
    def _a_folder(cls, name: str) -> str:
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError("expected a name of letters, digits, - and _")
        return name

    @property
    def changes(self) -> dict[str, Any]:
        """The keys that are different."""
        return dict(self.model_extra or {})


class TrainingConfig(TrainerConfig):
    """The training of a language model. What learns follows from where the model comes from: all weights of a `backbone`; or, on
    frozen weights, what `adapter`, `new_rows` and `features` add to them."""

    model_config = pydantic.ConfigDict(populate_by_name=True)

    output: Path
    """The run folder (checkpoints/, metrics.jsonl); a run that finds checkpoints there goes on from the newest whole one."""
    data: list[DataSource] = pydantic.Field(min_length=1)
    """Folders of token shards, all of one vocabulary."""
    loader: LoaderConfig
    """How documents are packed and read."""
    objectives: list[Objective] = pydantic.Field(default=[NextToken(), RouterBalance()], min_length=1)
    """What is learned; each is a term of the loss."""
    base: Path | None = pydantic.Field(default=None, alias="from")
    """A checkpoint, or a run folder (its newest), whose backbone is frozen, whose tokenizers are taken where none are given, and
    whose adapters and new rows, where it has some, go on learning."""
    backbone: BackboneConfig | None = None
    """In place of `from`: a model without mmpt's parts. All of it learns, or with `adapter` or `new_rows` none of it."""
    adapter: Adapter | None = None
    """What learns beside frozen weights."""
    new_rows: bool = False
    """Every row beyond the text tokenizer's ids learns, in tables of their own beside the frozen ones."""
    features: dict[MediumKind, FeatureInputConfig] = {}
    """Encoder and connector of each kind of media that enters as continuous features (image, speech)."""
    features_from: Path | None = None
    """A checkpoint or run folder whose connectors go on learning, with the settings that they have there; a kind of media that
    `features` names has those, if they need no other weights (more rows, tiles)."""
    text_tokenizer: Path | None = None
    """A folder or Hugging Face name; copied into each checkpoint, so that it is self-contained."""
    speech_tokenizer: Path | None = None
    """The same for speech; a published one may be named as Hugging Face has it."""
    image_tokenizer: Path | None = None
    """The same for images."""
    activation_checkpointing: bool = False
    """Keep of each layer its input alone and compute the rest again."""
    compile: bool = False
    """torch.compile on the MLP of each layer."""
    kernels: KernelsConfig = KernelsConfig()
    """What computes the parts of the decoder."""
    evaluate: EvaluateConfig | None = None
    """What is measured while the model learns."""
    stages: list[Stage] = []
    """Runs one after the other, each from the last checkpoint of the one before."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _tokens_or_steps(cls, content: Any) -> Any:
        """`tokens` in place of `steps`: as many steps as that many tokens fill."""
        if not isinstance(content, dict) or "tokens" not in content:
            return content
        content = dict(content)
        tokens = content.pop("tokens")
        if "steps" in content:
            raise ValueError("expected steps or tokens, not both")
        try:
            loader = LoaderConfig.model_validate(content["loader"])
        except (KeyError, pydantic.ValidationError):
            return {**content, "steps": 1}  # what is wrong there is told with the rest
        try:
            return {**content, "steps": loader.steps(float(tokens) / loader.pack_tokens)}
        except (TypeError, ValueError, OverflowError):
            raise ValueError("tokens: expected a number, with loader.pack_tokens and loader.packs_per_step beside it") from None

    @pydantic.field_validator("data")
    @classmethod
    def _always_something(cls, data: list[DataSource]) -> list[DataSource]:
        borders = sorted({0.0, 1.0, *(one.begin for one in data), *(one.until for one in data)})
        for start, end in pairwise(borders):
            if not any(one.begin <= start and end <= one.until for one in data):
                raise ValueError(f"no source is read from {start:g} to {end:g} of the run")
        return data

    @pydantic.field_validator("objectives")
    @classmethod
    def _each_once(cls, objectives: list[Objective]) -> list[Objective]:
        kinds = [objective.kind for objective in objectives]
        if len(set(kinds)) < len(kinds):
            raise ValueError(f"expected each objective once, found {', '.join(kinds)}")
        if all(getattr(objective, "until", 1.0) < 1 for objective in objectives):
            raise ValueError("expected one that is learned until the end of the run")
        return objectives

    @pydantic.field_validator("stages")
    @classmethod
    def _names(cls, stages: list[Stage]) -> list[Stage]:
        if len({stage.name for stage in stages}) < len(stages):
            raise ValueError("expected a name in each, different ones")
        if any({"output", "stages", "backbone", "from"} & set(stage.changes) for stage in stages[1:]):
            raise ValueError("output, stages, backbone and from are set by mmpt after the first stage")
        return stages

    @pydantic.model_validator(mode="after")
    def _something_learns(self) -> "TrainingConfig":
        if (self.base is None) == (self.backbone is None):
            raise ValueError("expected exactly one of from and backbone")
        if self.backbone is not None and self.frozen and self.backbone.path is None:
            raise ValueError("backbone.path: missing; a backbone from backbone.config has nothing worth freezing")
        if self.backbone is not None and self.frozen and not self.new_rows:
            raise ValueError("adapter: a backbone goes with new_rows: true, else the rows of new tokens would never learn")
        if self.frozen and self.adapter is None and not (self.new_rows or self.features or self.features_from):
            raise ValueError("from: with no adapter, new_rows: false and no features: nothing learns")
        return self

    @pydantic.model_validator(mode="after")
    def _features_on_whole_packs(self) -> "TrainingConfig":
        if (self.features or self.features_from) and self.loader.sequence_parallel > 1:
            raise ValueError("features do not go with loader.sequence_parallel")
        if self.features_from is None:  # else they are in a checkpoint
            problems = [problem for one in self.objectives if (problem := one.problem(self.features))]
            if problems:
                raise ValueError(f"objectives: {'; '.join(problems)}")
        cut = [one.kind for one in self.objectives if one.whole_packs]
        if cut and self.loader.sequence_parallel > 1:
            raise ValueError(f"objectives: {', '.join(cut)} does not go with loader.sequence_parallel")
        return self

    @pydantic.model_validator(mode="after")
    def _one_compiler(self) -> "TrainingConfig":
        if self.compile and self.kernels.swiglu not in ("auto", "plain"):
            raise ValueError(f"kernels.swiglu: {self.kernels.swiglu} does not go with compile: true, which compiles those MLPs")
        return self

    @pydantic.model_validator(mode="after")
    def _linear_layers_that_can(self) -> "TrainingConfig":
        linear = None if self.backbone is None else self.backbone.linear
        if linear is not None and self.compile and not linear.compiles:
            raise ValueError(f"backbone.linear: {linear.kind} does not go with compile: true")
        if linear is not None and self.frozen and linear.kind != linear.default_kind:
            raise ValueError("backbone.linear: a frozen backbone has no use for it")
        return self

    @pydantic.model_validator(mode="after")
    def _four_bits_whole(self) -> "TrainingConfig":
        if self.adapter is not None and self.adapter.base == "nf4" and self.zero_stage == 3:
            raise ValueError("adapter.base: nf4 goes with ZeRO stages 0 to 2, on each rank whole")
        return self

    @property
    def compares(self) -> bool:
        """Whether an objective compares with the model as the run began."""
        return any(objective.compares for objective in self.objectives)

    @property
    def frozen(self) -> bool:
        """Whether the backbone's own weights are frozen."""
        return self.base is not None or self.adapter is not None or self.new_rows

    @property
    def tokenizers(self) -> dict[str, Path]:
        """Name of the subfolder in a checkpoint → the folder to copy there."""
        folders = {name: getattr(self, name) for name in map(tokenizer_folder, MODALITIES)}
        return {name: folder for name, folder in folders.items() if folder is not None}


class FitConfig(TrainerConfig):
    """The training of a tokenizer, or of a stage of one."""

    batch_size: int = pydantic.Field(ge=1)
    """Examples of a step over all ranks."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, content: Any) -> Any:
        """Where a small model from scratch wants another default than a language model."""
        if not isinstance(content, dict):
            return content
        defaults: dict[str, Any] = {"run": {"save_every": 500, "log_every": 20}, "precision": "float32"}
        if isinstance(content.get("optimizer"), dict):
            known = Optimizer.meant_by(content["optimizer"]).model_fields
            wanted = {"betas": (0.9, 0.98), "weight_decay": 0.01}
            defaults["optimizer"] = {name: value for name, value in wanted.items() if name in known}
        found = dict(content)
        for key, value in defaults.items():
            if not isinstance(value, dict):
                found.setdefault(key, value)
            elif isinstance(found.setdefault(key, {}), dict):
                found[key] = {**value, **found[key]}
        return found

    @pydantic.field_validator("deepspeed")
    @classmethod
    def _whole_weights(cls, options: dict[str, Any]) -> dict[str, Any]:
        # Their losses read weights outside of the modules that hold them, where ZeRO 3 has left nothing.
        if options.get("zero_optimization", {}).get("stage", 0) > 2:
            raise ValueError("ZeRO stage 3 is not supported for tokenizers, expected one of 0, 1, 2")
        return options

    @pydantic.field_validator("optimizer")
    @classmethod
    def _no_parts(cls, optimizer: Optimizer) -> Optimizer:
        if optimizer.parts or optimizer.layer_decay < 1 or optimizer.frozen_layers:
            raise ValueError("parts, layer_decay and frozen_layers are those of a language model")
        return optimizer

    @property
    def seed(self) -> int:
        """What batches are drawn from."""
        return self.run.seed
