"""The encoders and connectors of a run that trains on media as continuous features."""

from collections.abc import Sequence
from pathlib import Path

import torch.distributed as dist
from peft import PeftModel
from transformers import PreTrainedModel

from mmpt.data.feature_rows import PictureRows
from mmpt.data.shards.read import TokenShards
from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.feature_inputs import FOLDER, FeatureInputs
from mmpt.model.loading import FORMAT
from mmpt.storage import MANIFEST, check_folder, published_folder, read_json
from mmpt.training.base import open_model
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.language_model import Start

ENCODERS = "mmpt-encoders/1"


def open_inputs(
    config: TrainingConfig, checkpoint: Path | None, model: PreTrainedModel | PeftModel, world: World
) -> FeatureInputs | None:
    """For the decoder `model`: as `checkpoint` has them, else those that go on from another run's, else new ones; None where the
    run has none.

    The encoders stand in RUN/encoders from the first start on, and checkpoints hold links to them; of those that learn, their
    settings alone. Every rank calls it. Raises
    `ConfigError` and `CheckpointError` where something cannot be loaded.
    """
    origin = checkpoint or _origin(config)
    if origin is not None and (origin / FOLDER).is_dir():
        inputs = FeatureInputs.load(origin / FOLDER, model, {} if checkpoint else config.features)
    elif config.features_from is not None:
        raise ConfigError(f"features_from: {origin}: it has no {FOLDER}/")
    elif config.features:
        inputs = FeatureInputs(config.features, model, config.run.seed)
    else:
        return None
    if config.optimizer.parts.get("encoder", 0.0) > 0:
        inputs.encoders_learn()
    folder = config.output / "encoders"
    if world.rank == 0:
        if not folder.exists():
            with published_folder(folder, {"format": ENCODERS}) as temporary:
                inputs.save_encoders(temporary / FOLDER)
        check_folder(folder, ENCODERS)
    dist.barrier()
    return inputs


def check_views(inputs: FeatureInputs, sources: Sequence[TokenShards]) -> None:
    """Raise `ConfigError` naming a source whose shards were made with other tiles than the run has."""
    for source in sources:
        made = source.manifest.built.get("to_tokens", {}).get("features", {})
        for kind, counted in inputs.counted.items():
            then = made.get(kind)
            if isinstance(counted, PictureRows) and then is not None:
                found = PictureRows.model_validate(then).tiles if isinstance(then, dict) else None
                if counted.tiles != found:
                    raise ConfigError(f"features.{kind}.tiles: {counted.tiles!r}, {source.folder} was made with {found!r}")


def open_start(config: TrainingConfig, sources: list[TokenShards], world: World) -> Start:
    """The model as the run began, from what it was made of: also where the run goes on from a checkpoint. Every rank calls it."""
    model = open_model(config, sources, None, world)
    return Start(model, open_inputs(config, None, model, world))


def encoder_files(config: TrainingConfig) -> tuple[Path, dict[str, dict]] | None:
    """(the folder, the hashes of its files as they are named in a checkpoint) of a run's encoders, None where it has none."""
    folder = config.output / "encoders"
    if not folder.is_dir():
        return None
    return folder / FOLDER, read_json(folder / MANIFEST, CheckpointError)["files"]


def _origin(config: TrainingConfig) -> Path | None:
    """The other run's checkpoint from which the connectors come."""
    if config.features_from is not None:
        check_folder(config.features_from, FORMAT)
        return config.features_from
    return None if config.features else config.base
