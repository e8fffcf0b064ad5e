"""The model of a run without its weights: names, shapes and what learns, for plans of runs that no machine at hand could hold."""

from pathlib import Path
from typing import cast

from peft import PeftConfig, PeftModel, get_peft_model
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.model.backbone import backbone_settings
from mmpt.model.changing import changed_settings
from mmpt.model.checkpoints import find_model
from mmpt.model.config import BackboneConfig
from mmpt.model.four_bits import hold_in_four_bits
from mmpt.model.hollow import hollow_model, resize
from mmpt.model.loading import NEW_ROWS
from mmpt.model.new_rows import new_tables, split_rows
from mmpt.model.packed_attention import NAME as PACKED_ATTENTION
from mmpt.training.agreement import settled
from mmpt.training.config import TrainingConfig
from mmpt.training.objectives._taught import Taught
from mmpt.training.parts import freeze
from mmpt.training.sources import open_sources
from mmpt.vocabulary import Vocabulary


def outline(config: TrainingConfig) -> PreTrainedModel | PeftModel:
    """As `mmpt.training.base.open_model` makes it for a run that begins, without a value in it. Of the backbone its configuration
    is read, of the data their vocabulary. Raises `ConfigError` where one of them cannot be."""
    config = settled(config)
    _, vocabulary = open_sources(config)
    model = _decoder(config, vocabulary)
    if not config.frozen:
        freeze(model.named_parameters(), config.optimizer)
        return model
    base = config.base
    split = config.new_rows or (base is not None and (base / NEW_ROWS).is_file())
    tables = split_rows(model, vocabulary.text_size) if split else []
    model.requires_grad_(False)
    saved = base / "adapter" if base is not None and (base / "adapter").is_dir() else None
    settings = None if config.adapter is None else config.adapter.peft_config(config.run.seed)
    if saved is not None:
        settings = PeftConfig.from_pretrained(str(saved))
    adapted = model if settings is None else get_peft_model(model, settings, low_cpu_mem_usage=True)
    for table in tables:
        table.requires_grad_(True)
    assert not split or new_tables(adapted)
    if config.adapter is not None and config.adapter.base == "nf4":
        hold_in_four_bits(cast(PeftModel, adapted))
    freeze(adapted.named_parameters(), config.optimizer)
    return adapted


def teachers(config: TrainingConfig) -> list[tuple[str, int]]:
    """(Path, parameters) of the teacher of each objective that has one, from its configuration. Raises `ConfigError` where that
    cannot be read."""
    found = []
    for path in (one.teacher for one in config.objectives if isinstance(one, Taught)):
        model = find_model(Path(path))
        settings = _settings(str(model / "backbone" if (model / "backbone").is_dir() else model), "objectives: teacher")
        found.append((path, sum(weight.numel() for weight in hollow_model(settings, PACKED_ATTENTION).parameters())))
    return found


def _settings(path: str, name: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(path)
    except (OSError, ValueError, KeyError) as problem:
        raise ConfigError(f"{name} {path}: its configuration cannot be read: {problem}") from None


def _decoder(config: TrainingConfig, vocabulary: Vocabulary) -> PreTrainedModel:
    if config.backbone is not None and config.backbone.config is not None:
        settings = backbone_settings(config.backbone.config, vocabulary.size)
    else:
        # The schema asks for one of the two.
        path = config.base / "backbone" if config.base is not None else cast(BackboneConfig, config.backbone).path or ""
        settings = changed_settings(
            _settings(str(path), "backbone"), config.backbone.change if config.backbone is not None else []
        )
    model = hollow_model(settings, PACKED_ATTENTION)
    resize(model, vocabulary.size)
    return model
