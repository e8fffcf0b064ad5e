"""The model of a run: all of its weights learn, or a frozen backbone and what learns on it."""

from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.data.shards.read import TokenShards
from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.adaptation import add_adapter
from mmpt.model.backbone import backbone_folder, build_backbone, grow, load_backbone
from mmpt.model.changing import changed
from mmpt.model.four_bits import hold_in_four_bits
from mmpt.model.hollow import fill
from mmpt.model.loading import FORMAT, load_parts
from mmpt.model.new_rows import new_tables, split_rows
from mmpt.storage import MANIFEST, check_folder, link_tree, published_folder, read_json
from mmpt.training.agreement import backbone_vocabulary
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.sources import sample
from mmpt.vocabulary import Vocabulary, check_same

FROZEN = "mmpt-frozen/1"


def open_model(
    config: TrainingConfig, sources: list[TokenShards], checkpoint: Path | None, world: World
) -> PreTrainedModel | PeftModel:
    """As `checkpoint` has it, or as the configuration says that a run begins.

    Under ZeRO 3 its weights stay in their files (see `mmpt.model.hollow`) until the engine cuts them up, one by one. Raises
    `CheckpointError` where a file is damaged, and `VocabularyError` where the data have another vocabulary."""
    if config.frozen:
        packed = config.adapter is not None and config.adapter.base == "nf4"
        model = _open_frozen(config, sources, checkpoint, world, hollow=packed or config.zero_stage == 3)
        if packed:
            hold_in_four_bits(cast(PeftModel, model), world.device)
            fill(model)
        return model
    vocabulary, hollow = sources[0].vocabulary, config.zero_stage == 3
    if checkpoint is not None:
        model, known = load_parts(checkpoint, factors=True, hollow=hollow)
        check_same(vocabulary, str(config.data[0].path), known, str(checkpoint))
        return model
    assert config.backbone is not None  # a configuration without `from` has one
    known = config.backbone.path and backbone_vocabulary(config.backbone.path)
    # A table that has learned this very vocabulary has no rows that would have to begin as those of new tokens do.
    text = None if known else vocabulary.text_size
    return build_backbone(
        config.backbone, vocabulary.size, config.run.seed, sequences=sample(sources), text_size=text, hollow=hollow
    )


def _open_frozen(
    config: TrainingConfig, sources: list[TokenShards], checkpoint: Path | None, world: World, hollow: bool
) -> PreTrainedModel | PeftModel:
    """The model, of which only what is to learn asks for a gradient: as `checkpoint` has it, or new on the backbone.

    The frozen files stand in RUN/frozen from the first start on. Raises `CheckpointError` where they or the base are damaged, or
    not those that the run began with.
    """
    vocabulary = sources[0].vocabulary
    frozen = _frozen(config, world, sources)
    if checkpoint is not None:
        if _backbone(read_json(checkpoint / MANIFEST, CheckpointError)) != _backbone(
            read_json(frozen / MANIFEST, CheckpointError)
        ):
            raise CheckpointError(f"{checkpoint}: it was trained on another backbone than that in {frozen}")
        model, known = load_parts(checkpoint, trainable=True, hollow=hollow)
        check_same(vocabulary, str(config.data[0].path), known, str(checkpoint))
        if not isinstance(model, PeftModel) and not new_tables(model):  # connectors alone learn
            model.requires_grad_(False)
        return model
    if config.base is not None:
        model, known = load_parts(config.base, trainable=True, hollow=hollow)
        check_same(vocabulary, str(config.data[0].path), known, str(config.base))
        return _prepared(model, vocabulary, config)
    assert config.backbone is not None  # a configuration without `from` has one
    model = load_backbone(frozen / "backbone", hollow=hollow)
    draw = torch.Generator().manual_seed(config.run.seed)
    grow(model, vocabulary.text_size, vocabulary.size, config.backbone.row_init, draw, sample(sources))
    return _prepared(model, vocabulary, config)


def frozen_folder(config: TrainingConfig) -> Path:
    """Where the frozen files of a run are: `backbone`/, and the hashes of them all."""
    return config.output / "frozen"


def _prepared(model: PreTrainedModel | PeftModel, vocabulary: Vocabulary, config: TrainingConfig) -> PreTrainedModel | PeftModel:
    """`model` with the adapters and the tables of new rows that the configuration asks for and that it does not have yet."""
    tables = list(new_tables(model).values())
    if config.new_rows and not tables:
        if isinstance(model, PeftModel):
            raise ConfigError(f"new_rows: from: {config.base} holds adapters that learned without new rows; merge them first")
        tables = split_rows(model, vocabulary.text_size)
    if isinstance(model, PeftModel):
        return model
    model.requires_grad_(False)
    if config.adapter is not None:
        model = add_adapter(model, config.adapter, config.run.seed)
    for table in tables:
        table.requires_grad_(True)
    return model


def _frozen(config: TrainingConfig, world: World, sources: list[TokenShards]) -> Path:
    folder = frozen_folder(config)
    if world.rank == 0:
        if not folder.exists():
            if config.base is not None:
                source, known = config.base / "backbone", _backbone(check_folder(config.base, FORMAT))
            else:
                assert config.backbone is not None and config.backbone.path is not None
                source, known = backbone_folder(config.backbone.path), {}
            changes = [] if config.backbone is None else config.backbone.change
            with published_folder(folder, {"format": FROZEN}, known) as temporary:
                if changes:
                    model = changed(load_backbone(source), changes, config.run.seed, sample(sources))
                    model.save_pretrained(temporary / "backbone")
                else:
                    link_tree(source, temporary / "backbone")
        found = check_folder(folder, FROZEN)
        if config.base is not None and _backbone(read_json(config.base / MANIFEST, CheckpointError)) != _backbone(found):
            raise CheckpointError(f"{folder}: another backbone than that of from: {config.base}")
    dist.barrier()
    return folder


def _backbone(manifest: dict[str, Any]) -> dict[str, dict]:
    return {name: entry for name, entry in manifest["files"].items() if name.startswith("backbone/")}
