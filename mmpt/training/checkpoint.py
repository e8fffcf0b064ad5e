"""Checkpoints: RUN/checkpoints/step-00000400, whole or not there, checked by hash before use, without pickle.

    manifest.json  vocabulary.json  [chat.json]  [prompts.json]  recipe.yaml  backbone/  [adapter/]  [new_rows.safetensors]
    [linear.safetensors]
    [features/KIND/] [text_tokenizer/ speech_tokenizer/ image_tokenizer/]
    training/optimizer.safetensors   training/state.json

On several ranks each writes its share of backbone/ and of the optimizer's state: whole tensors, in files that are numbered as
Hugging Face numbers those of large models (model-00001-of-00008.safetensors with an index), so that any number of ranks, and
transformers, read them. DeepSpeed's own checkpoints are not used: they are pickled, written in place, and bound to the number of
ranks.
"""

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import yaml
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from mmpt.chat import ChatFormat
from mmpt.errors import CheckpointError, MmptError
from mmpt.modality import tokenizer_folder
from mmpt.model.adaptation import save_adapter
from mmpt.model.factors import has_factors, split_weights
from mmpt.model.feature_inputs import FOLDER, PREFIXES
from mmpt.model.hollow import INDEX, WHOLE
from mmpt.model.loading import FORMAT, NEW_ROWS
from mmpt.model.new_rows import new_tables
from mmpt.model.prompts import Prompts
from mmpt.storage import MANIFEST, check_folder, link_tree, published_folder, read_json, room_for, write_bytes, write_json
from mmpt.tokenizers.quiet import no_progress_bars
from mmpt.tokenizers.text import copy_text_tokenizer
from mmpt.training.background import Background
from mmpt.training.base import frozen_folder
from mmpt.training.config import TrainerConfig, TrainingConfig
from mmpt.training.copies import copy_out, fetch
from mmpt.training.distributed import World
from mmpt.training.heads import save_heads
from mmpt.training.inputs import encoder_files
from mmpt.training.language_model import LanguageModel
from mmpt.training.shares import TensorFiles, give_up, hand_in, handed_in, shard_name, weight_map
from mmpt.training.state import optimizer_tensors, restore_optimizer, shape_of, weights
from mmpt.training.trainer import Engine

PACKAGES = ("mmpt", "torch", "transformers", "deepspeed", "peft", "safetensors")
OPTIMIZER, BEST = "optimizer", "best"
NONE, ALL_DAMAGED, NO_COPY = -1, -2, -3


def save_checkpoint(
    engine: Engine,
    step: int,
    loader_state: dict[str, Any],
    config: TrainingConfig,
    world: World,
    saving: Background,
    chat: ChatFormat | None = None,
    evaluation: dict[str, Any] | None = None,
    prompts: Prompts | None = None,
) -> Path:
    """Publish the state of a language model after update `step`; see `publish`. Of a frozen backbone links are saved. `chat`: how
    its conversations are marked; `evaluation`: the state of the run's evaluations; `prompts`: the words by which it is asked."""
    frozen = frozen_folder(config) if config.frozen else None
    trained = cast(LanguageModel, engine.module.trainable)
    vocabulary, inputs = trained.vocabulary, trained.inputs
    # What learns beside frozen weights is small, and peft's file; what is joined or parted on its way to the files, is so whole.
    alone = frozen is not None or has_factors(trained.model) or not _named_as_in_files(trained.model)
    writers = 1 if alone else world.size
    tensors = weights(engine, everything=frozen is None, ranks=writers)
    # Here and not beside the training: under ZeRO 3, whoever looks at a weight during a forward pass gathers it from all ranks.
    parts = _parts(config.output, step)
    with _removed_on_failure(parts, world), room_for(_final(config.output, step)):
        parts.mkdir(parents=True, exist_ok=True)
        mine = _write_model(trained.model, _without_connectors(tensors), parts, frozen, world.rank, writers)
        if inputs is not None and world.rank == 0:
            inputs.save_connectors(parts / FOLDER, tensors)
        save_heads(tensors, parts)
    del tensors  # before the optimizer's are copied

    def write(folder: Path) -> None:
        if writers > 1:
            write_json(folder / "backbone" / INDEX, weight_map(folder / "backbone"))
        vocabulary.save(folder)
        write_recipe(config, folder)
        if chat is not None:
            chat.save(folder)
        if prompts is not None:
            prompts.save(folder)
        for name, tokenizer in config.tokenizers.items():
            (copy_text_tokenizer if name == tokenizer_folder("text") else link_tree)(tokenizer, folder / name)
        if encoders is not None:
            link_tree(encoders[0], folder / FOLDER)

    encoders = encoder_files(config) if inputs is not None else None
    known = read_json(frozen / MANIFEST, CheckpointError)["files"] if frozen else {}
    known |= encoders[1] if encoders is not None else {}
    state = {"loader": loader_state, **({} if evaluation is None else {"evaluation": evaluation})}
    best = evaluation is not None and evaluation["step"] == step
    return publish(engine, step, config.output, config, world, saving, FORMAT, write, state, known, mine, best)


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
    mine: Iterable[str] = (),
    best: bool = False,
) -> Path:
    """Publish `run`/checkpoints/step-…, of format `form`: what `write` puts into the folder, the optimizer's state, and `state`.

    Every rank calls it. Each writes its share of the optimizer's state by `saving`, from copies, into a hidden folder; once all
    shares are there, rank 0 puts the checkpoint together and renames it: training may go on as soon as this returns. `write` must
    not look at the model. `known`: hashes of files that are links; `mine`: what this rank has put into the hidden folder before.
    `best`: `run`/best leads to it from then on. Older checkpoints beyond `config.run.keep` are removed, but for that one.
    """
    # On every rank, since gathering under ZeRO is collective; from here on each works on copies of its own.
    tensors = optimizer_tensors(engine, world.size)
    final, parts = _final(run, step), _parts(run, step)
    own = shard_name(f"training/{OPTIMIZER}", world.rank, world.size)
    manifest = {"format": form, "step": step, "python": platform.python_version()}
    manifest["packages"] = {name: version(name) for name in PACKAGES}
    record = {"step": step, "seed": config.run.seed, "world_size": world.size, **(state or {})}

    def share() -> None:
        with room_for(final):
            (parts / "training").mkdir(parents=True, exist_ok=True)
            if tensors:
                save_file(tensors, parts / own)

    def hand_over() -> None:
        try:
            share()
            hand_in(parts, world.rank, [*mine, *([own] if tensors else [])])
        except BaseException as problem:
            give_up(parts, world.rank, problem)
            raise

    def put_together() -> None:
        with _removed_on_failure(parts, world):
            share()
            hashes = handed_in(parts, world.size, abandoned=lambda: saving.abandoned)
            with published_folder(final, manifest, {**(known or {}), **hashes}) as folder:
                for path in [path for path in sorted(parts.rglob("*")) if path.is_file() and path.parent != parts]:
                    to = folder / path.relative_to(parts)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    os.replace(path, to)
                for path in parts.glob("*.safetensors"):
                    os.replace(path, folder / path.name)
                write(folder)
                write_json(folder / "training" / "state.json", record)
        shutil.rmtree(parts)
        if best:
            point_to_best(run, final)
        # Only once the new one is whole under its name: a run never has fewer than `keep` to go on from.
        _prune(_folder(run), config.run.keep)
        if config.run.copy_to is not None:
            copy_out(final, config.run.copy_to, config.run.keep)

    saving.submit(hand_over if world.rank else put_together)
    return final


def point_to_best(run: Path, checkpoint: Path | None) -> None:
    """Let `run`/best lead to `checkpoint`, by one rename; nowhere, where that is None or not there."""
    link = run / BEST
    if checkpoint is None or not checkpoint.is_dir():
        link.unlink(missing_ok=True)
        return
    temporary = run / f".{BEST}.{os.getpid()}.tmp"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(checkpoint.relative_to(run))
    os.replace(temporary, link)


def settle_best(run: Path, evaluation: dict[str, Any] | None, world: World) -> None:
    """Where a run goes on: `run`/best leads to the best checkpoint of the evaluations so far, whatever was interrupted."""
    if world.rank == 0:
        step = (evaluation or {}).get("step")
        point_to_best(run, None if step is None else _final(run, step))


def write_recipe(config: TrainerConfig, folder: Path) -> None:
    """The settings of the run, as recipe.yaml in `folder`, which is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = yaml.safe_dump(config.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)
    write_bytes(folder / "recipe.yaml", recipe.encode())


def newest_checkpoint(run: Path, world: World, form: str = FORMAT, copies: str | None = None) -> Path | None:
    """The newest whole checkpoint of `run`, None where there is none at all; every rank calls it and gets the same. Where it has
    none, the newest of its `copies` is brought first.

    Damaged ones are skipped, each with its reason on stderr. Raises `CheckpointError` where all are damaged: a fresh start would
    silently throw the run away.
    """
    # One rank looks and all follow: a folder on a network may not look the same to everyone at the same moment.
    problem: MmptError | None = None
    step = 0
    if world.rank == 0:
        try:
            if copies is not None and not _existing(_folder(run)):
                fetch(run, copies, form)
            step = _newest_step(_folder(run), form)
        except MmptError as raised:  # told once all ranks know of it
            problem, step = raised, NO_COPY
    found = torch.tensor([step], device=world.device)
    dist.broadcast(found, src=0)
    if found.item() == NO_COPY:
        raise problem or CheckpointError(f"{copies}: the copy of the run cannot be had")
    if found.item() == ALL_DAMAGED:
        raise CheckpointError(f"{_folder(run)}: every checkpoint is damaged; to start over, remove this folder")
    return None if found.item() == NONE else _folder(run) / f"step-{found.item():08d}"


def restore_training(engine: Engine, checkpoint: Path) -> dict[str, Any]:
    """Put the optimizer state of a checked checkpoint into `engine`; returns `step`, and what else is in its state.json."""
    path = checkpoint / "training"
    files = sorted(path.glob(f"{OPTIMIZER}*.safetensors"))  # one for each rank that wrote it, whatever their number is now
    if not files:
        raise CheckpointError(f"{path / OPTIMIZER}.safetensors: missing")
    restore_optimizer(engine, TensorFiles(files), str(files[0] if len(files) == 1 else path))
    return read_json(checkpoint / "training" / "state.json", CheckpointError)


@contextmanager
def _removed_on_failure(parts: Path, world: World) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if world.rank == 0:
            shutil.rmtree(parts, ignore_errors=True)
        raise


def _final(run: Path, step: int) -> Path:
    return _folder(run) / f"step-{step:08d}"


def _parts(run: Path, step: int) -> Path:
    """Where the ranks put their shares of a checkpoint. What a killed run leaves there goes with the next start."""
    return _folder(run) / f".step-{step:08d}.parts"


def _folder(run: Path) -> Path:
    return run / "checkpoints"


def _write_model(
    model: PreTrainedModel | PeftModel, tensors: dict[str, Tensor], folder: Path, frozen: Path | None, rank: int, writers: int
) -> list[str]:
    """Write this rank's share `tensors` of a model into `folder`, rank 0 its other files too. Returns the names of those whose
    hashes another rank than 0 is to tell."""
    if frozen is None and writers > 1:
        return _write_share(cast(PreTrainedModel, model), tensors, folder, rank, writers)
    if rank:
        return []
    if frozen is None:
        with no_progress_bars():
            plain = cast(PreTrainedModel, model)
            plain.save_pretrained(folder / "backbone", state_dict=split_weights(plain, tensors, folder))
        return []
    link_tree(frozen / "backbone", folder / "backbone")
    if isinstance(model, PeftModel):
        save_adapter(model, tensors, folder / "adapter")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rows = {table: tensors[names[id(parameter)]] for table, parameter in new_tables(model).items()}
    if rows:
        save_file(rows, folder / NEW_ROWS)
    return []


def _write_share(model: PreTrainedModel, tensors: dict[str, Tensor], folder: Path, rank: int, writers: int) -> list[str]:
    name = f"backbone/{shard_name('model', rank, writers)}"
    (folder / "backbone").mkdir(exist_ok=True)
    if rank == 0:
        own = folder / "main"  # of its own: transformers removes the numbered files of others
        with no_progress_bars():
            model.save_pretrained(own, state_dict=tensors, max_shard_size=2**62)
        for path in own.iterdir():
            os.replace(path, folder / name if path.name == WHOLE else folder / "backbone" / path.name)
        own.rmdir()
    elif tensors:  # transformers writes on rank 0 alone
        save_file(tensors, folder / name, {"format": "pt"})
    return [name] if tensors else []


def _named_as_in_files(model: nn.Module) -> bool:
    """Whether each weight of `model` lies in transformers' files by its own name and alone; experts, for one, are joined as they
    are read, and parted as they are written."""
    if not isinstance(model, PreTrainedModel) or model._keys_to_ignore_on_save:
        return False
    shapes = {name: torch.empty(shape_of(weight), device="meta") for name, weight in model.named_parameters()}
    return revert_weight_conversion(model, dict(shapes)).keys() == shapes.keys()


def _without_connectors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(PREFIXES)}


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
    best = (folder.parent / BEST).resolve()
    for checkpoint in _existing(folder)[:-keep]:
        if checkpoint.resolve() == best:
            continue
        # Renamed first: a removal that is interrupted leaves no half checkpoint under its name.
        hidden = checkpoint.with_name(f".{checkpoint.name}.{os.getpid()}.old")
        os.replace(checkpoint, hidden)
        shutil.rmtree(hidden)
