"""Checkpoints: RUN/checkpoints/step-00000400, whole or not there, checked by hash before use, without pickle.

    manifest.json  vocabulary.json  [chat.json]  recipe.yaml  backbone/  [adapter/]  [new_rows.safetensors]  [linear.safetensors]
    [features/KIND/] [text_tokenizer/ speech_tokenizer/ image_tokenizer/]
    training/optimizer.safetensors   training/state.json

DeepSpeed's own checkpoints are not used: they are pickled, written in place, and bound to the number of ranks.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import yaml
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmpt.chat import ChatFormat
from mmpt.errors import CheckpointError
from mmpt.modality import tokenizer_folder
from mmpt.model.adaptation import save_adapter
from mmpt.model.factors import split_weights
from mmpt.model.feature_inputs import FOLDER
from mmpt.model.loading import FORMAT, NEW_ROWS
from mmpt.model.new_rows import new_tables
from mmpt.storage import MANIFEST, check_folder, link_tree, published_folder, read_json, room_for, write_bytes, write_json
from mmpt.tokenizers.quiet import no_progress_bars
from mmpt.tokenizers.text import copy_text_tokenizer
from mmpt.training.background import Background
from mmpt.training.base import frozen_folder
from mmpt.training.config import TrainerConfig, TrainingConfig
from mmpt.training.distributed import World
from mmpt.training.inputs import encoder_files
from mmpt.training.language_model import LanguageModel
from mmpt.training.state import optimizer_tensors, restore_optimizer, weights
from mmpt.training.trainer import Engine

PACKAGES = ("mmpt", "torch", "transformers", "deepspeed", "peft", "safetensors")
NONE, ALL_DAMAGED = -1, -2


def save_checkpoint(
    engine: Engine,
    step: int,
    loader_state: dict[str, Any],
    config: TrainingConfig,
    world: World,
    saving: Background,
    chat: ChatFormat | None = None,
) -> Path:
    """Publish the state of a language model after update `step`; see `publish`. Of a frozen backbone links are saved. `chat`: how
    its conversations are marked."""
    frozen = frozen_folder(config) if config.frozen else None
    tensors = weights(engine, everything=frozen is None)
    trained = cast(LanguageModel, engine.module.trainable)
    vocabulary, inputs = trained.vocabulary, trained.inputs
    # Here and not beside the training: under ZeRO 3, whoever looks at a weight during a forward pass gathers it from all ranks.
    written = _folder(config.output) / f".step-{step:08d}.{os.getpid()}.model.tmp"
    if world.rank == 0:
        with _removed_on_failure(written), room_for(written.parent / f"step-{step:08d}"):
            written.mkdir(parents=True)
            _write_model(trained.model, _without_connectors(tensors), written, frozen)
            if inputs is not None:
                inputs.save_connectors(written / FOLDER, tensors)

    def write(folder: Path) -> None:
        with _removed_on_failure(written):
            for path in list(written.iterdir()):
                os.replace(path, folder / path.name)
            written.rmdir()
        vocabulary.save(folder)
        write_recipe(config, folder)
        if chat is not None:
            chat.save(folder)
        for name, tokenizer in config.tokenizers.items():
            (copy_text_tokenizer if name == tokenizer_folder("text") else link_tree)(tokenizer, folder / name)
        if encoders is not None:
            link_tree(encoders[0], folder / FOLDER)

    encoders = encoder_files(config) if inputs is not None else None
    known = read_json(frozen / MANIFEST, CheckpointError)["files"] if frozen else {}
    known |= encoders[1] if encoders is not None else {}
    return publish(engine, step, config.output, config, world, saving, FORMAT, write, {"loader": loader_state}, known)


def publish(
    engine: Engine,
    step: int,
    run: Path,
    config: TrainerConfig,
    world: World,
    saving: Background,
    form: str,
    write: Callable[[Path], None],
    state: dict[str, Any] | None = None,
    known: dict[str, dict[str, Any]] | None = None,
) -> Path:
    """Publish `run`/checkpoints/step-…, of format `form`: what `write` puts into the folder, the optimizer's state, and `state`.

    Every rank calls it; rank 0 writes, by `saving`, from copies: training may go on as soon as this returns. `write` must not
    look at the model. `known`: hashes of files that are links. Older checkpoints beyond `config.run.keep` are removed.
    """
    # On every rank, since gathering under ZeRO is collective; from here on rank 0 works on copies of its own.
    tensors = optimizer_tensors(engine)
    final = _folder(run) / f"step-{step:08d}"
    manifest = {"format": form, "step": step, "python": platform.python_version()}
    manifest["packages"] = {name: version(name) for name in PACKAGES}
    record = {"step": step, "seed": config.run.seed, "world_size": world.size, **(state or {})}

    def work() -> None:
        with published_folder(final, manifest, known) as folder:
            write(folder)
            (folder / "training").mkdir()
            save_file(tensors, folder / "training" / "optimizer.safetensors")
            write_json(folder / "training" / "state.json", record)
        # Only once the new one is whole under its name: a run never has fewer than `keep` to go on from.
        _prune(_folder(run), config.run.keep)

    if world.rank == 0:
        saving.submit(work)
    return final


def write_recipe(config: TrainerConfig, folder: Path) -> None:
    """The settings of the run, as recipe.yaml in `folder`, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)
    write_bytes(folder / "recipe.yaml", recipe.encode())


def newest_checkpoint(run: Path, world: World, form: str = FORMAT) -> Path | None:
    """The newest whole checkpoint of `run`, None where there is none at all; every rank calls it and gets the same.

    Damaged ones are skipped, each with its reason on stderr. Raises `CheckpointError` where all are damaged: a fresh start would
    silently throw the run away.
    """
    # One rank looks and all follow: a folder on a network may not look the same to everyone at the same moment.
    found = torch.tensor([_newest_step(_folder(run), form) if world.rank == 0 else 0], device=world.device)
    dist.broadcast(found, src=0)
    if found.item() == ALL_DAMAGED:
        raise CheckpointError(f"{_folder(run)}: every checkpoint is damaged; to start over, remove this folder")
    return None if found.item() == NONE else _folder(run) / f"step-{found.item():08d}"


def restore_training(engine: Engine, checkpoint: Path) -> dict[str, Any]:
    """Put the optimizer state of a checked checkpoint into `engine`; returns `step`, and what else is in its state.json."""
    path = checkpoint / "training" / "optimizer.safetensors"
    if not path.is_file():
        raise CheckpointError(f"{path}: missing")
    restore_optimizer(engine, load_file(path), str(path))
    return read_json(checkpoint / "training" / "state.json", CheckpointError)


@contextmanager
def _removed_on_failure(folder: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _folder(run: Path) -> Path:
    return run / "checkpoints"


def _write_model(model, tensors: dict[str, Tensor], folder: Path, frozen: Path | None) -> None:
    if frozen is None:
        with no_progress_bars():
            model.save_pretrained(folder / "backbone", state_dict=split_weights(model, tensors, folder))
        return
    link_tree(frozen / "backbone", folder / "backbone")
    if isinstance(model, PeftModel):
        save_adapter(model, tensors, folder / "adapter")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rows = {table: tensors[names[id(parameter)]] for table, parameter in new_tables(model).items()}
    if rows:
        save_file(rows, folder / NEW_ROWS)


def _without_connectors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("connectors.")}


def _newest_step(folder: Path, form: str) -> int:
    for leftover in folder.glob(".step-*"):  # of a process that was killed while it wrote or removed one
        shutil.rmtree(leftover)
    existing = _existing(folder)
    for checkpoint in reversed(existing):
        try:
            return int(check_folder(checkpoint, form)["step"])
        except CheckpointError as problem:
            print(f"checkpoint skipped: {problem}", file=sys.stderr)
    return ALL_DAMAGED if existing else NONE


def _existing(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def _prune(folder: Path, keep: int) -> None:
    for checkpoint in _existing(folder)[:-keep]:
        # Renamed first: a removal that is interrupted leaves no half checkpoint under its name.
        hidden = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.old")
        os.replace(checkpoint, hidden)
        shutil.rmtree(hidden)
