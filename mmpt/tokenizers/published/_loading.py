"""A model of transformers from a folder, whole or not at all."""

from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from mmpt.errors import CheckpointError
from mmpt.storage import read_json
from mmpt.tokenizers.quiet import no_progress_bars

M = TypeVar("M", bound=PreTrainedModel)


def whole_model(kind: type[M], folder: Path) -> M:
    """The model in `folder`, float32, in eval mode. Raises `CheckpointError` where a weight is missing or of another shape."""
    try:
        with no_progress_bars():
            loaded: Any = kind.from_pretrained(  # with `output_loading_info` a pair
                str(folder), dtype=torch.float32, use_safetensors=True, output_loading_info=True, local_files_only=True
            )
            model, found = loaded
    except (OSError, ValueError, RuntimeError, SafetensorError) as problem:
        raise CheckpointError(f"{folder}: no {kind.__name__} can be loaded ({' '.join(str(problem).split())})") from None
    if missing := sorted(found["missing_keys"]):
        some = ", ".join(missing[:3])
        raise CheckpointError(f"{folder}: lacks {len(missing)} weights of a {kind.__name__}: {some}, …")
    return model.eval()


def load_tensors(model: nn.Module, tensors: dict[str, torch.Tensor], where: Path) -> None:
    """`tensors` into `model`. Raises `CheckpointError` where one is missing, or has another shape."""
    try:
        missing, _ = model.load_state_dict({name: value.float() if value.is_floating_point() else value
                                            for name, value in tensors.items()}, strict=False)  # fmt: skip
    except RuntimeError as problem:
        raise CheckpointError(f"{where}: its weights do not fit its configuration ({' '.join(str(problem).split())})") from None
    if missing:
        raise CheckpointError(f"{where}: lacks {len(missing)} weights: {', '.join(sorted(missing)[:3])}, …")


def part_of_model(kind: type[M], config: Any, folder: Path, prefixes: tuple[str, ...]) -> M:
    """The same of a model of `config` that lies in the checkpoint of a larger one, under one of `prefixes`."""
    model = kind(config)
    load_tensors(model, tensors_under(folder, prefixes), folder)
    return model.eval()


def vq_model(kind: type[M], shape: Any, config: dict[str, Any], folder: Path, prefixes: tuple[str, ...], **known: Any) -> Any:
    """The VQ model in `folder`, whose config.json is `config`: alone, or inside of the language model that it came with, then of
    a `shape` with what is `known` beside its section."""
    if "vq_config" in config:
        return part_of_model(kind, shape.from_dict({**config["vq_config"], **known}), folder, prefixes)
    return whole_model(kind, folder)


def tensors_under(folder: Path, prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Tensors of the safetensors files of `folder` whose name begins with one of `prefixes`, without it."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a dict)
                    prefix = next((one for one in prefixes if name.startswith(one)), None)
                    if prefix is not None:
                        found[name.removeprefix(prefix)] = file.get_tensor(name)
        except (OSError, SafetensorError) as problem:
            raise CheckpointError(f"{path}: cannot be read ({problem})") from None
    return found


def check_rate(folder: Path, expected: int) -> None:
    """Raise `CheckpointError` where what lies beside the weights was made for sound of another rate."""
    path = folder / "preprocessor_config.json"
    found = read_json(path, CheckpointError).get("sampling_rate") if path.is_file() else expected
    if found != expected:
        raise CheckpointError(f"{path}: sampling_rate is {found}, the model takes {expected}")
