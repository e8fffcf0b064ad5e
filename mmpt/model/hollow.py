"""A model whose weights are still in their files: shapes, types and names are there, values are read one by one when asked for.

A rank that keeps a part of each weight then never holds the whole model. A weight without values is one NaN seen through the
right shape, which takes four bytes; whoever computes with it by mistake sees that in the result. What only looks at shapes (a
recipe's counts, adapters, ZeRO's groups) works as with a whole model.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from accelerate import init_empty_weights
from peft import PeftModel
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedConfig, PreTrainedModel

SOURCE = "source"
INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
PROBE_ROWS = 256
"""Rows of each table in a model of its first layers: a check draws ids, and does not need them all."""


class Source(Protocol):
    """Reads a weight anew: all of it, or its first `rows`; memory of its own."""

    def __call__(self, rows: int | None = None) -> Tensor: ...


def hollow(shape: tuple[int, ...] | torch.Size, dtype: torch.dtype, source: Source | None, learns: bool = True) -> nn.Parameter:
    """A parameter of that shape without values, which `source` gives. None: nobody will ask for them (a plan)."""
    parameter = nn.Parameter(torch.full((), torch.nan, dtype=dtype).expand(shape), requires_grad=learns)
    setattr(parameter, SOURCE, source)
    return parameter


def is_hollow(model: nn.Module) -> bool:
    """Whether any weight has no values yet."""
    return any(hasattr(parameter, SOURCE) for parameter in model.parameters())


def values(parameter: Tensor, rows: int | None = None) -> Tensor:
    """The values of a parameter, hollow or not; the first `rows` of them."""
    source = getattr(parameter, SOURCE, None)
    return parameter.detach()[:rows] if source is None else source(rows)


def fill(module: nn.Module) -> None:
    """Give every parameter of `module` its values."""
    for parameter in module.parameters():
        fill_one(parameter)


def fill_one(parameter: nn.Parameter) -> None:
    """Give a parameter its values, where it has none."""
    if hasattr(parameter, SOURCE):
        parameter.data = values(parameter)
        delattr(parameter, SOURCE)


def place(module: nn.Module, device: torch.device, weights: bool = True) -> None:
    """Move what has values to `device`: buffers, and with `weights` the parameters that are not hollow."""
    for one in module.modules():
        for name, buffer in one.named_buffers(recurse=False):
            one._buffers[name] = buffer.to(device)
    for parameter in module.parameters() if weights else ():
        if not hasattr(parameter, SOURCE):
            parameter.data = parameter.data.to(device)


def hollow_model(settings: PreTrainedConfig, attention: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model without values and without sources."""
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation=attention)
    model.tie_weights()
    made: dict[int, nn.Parameter] = {}  # tied weights are one object
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            fresh = made.setdefault(id(parameter), hollow(parameter.shape, parameter.dtype, None, parameter.requires_grad))
            setattr(module, name, fresh)
    return model


def open_hollow(folder: Path, dtype: torch.dtype, attention: str) -> PreTrainedModel | None:
    """The model of `folder`, each weight with its file as source, in evaluation mode.

    None where that would not be, name for name, what transformers loads: weights that it converts, quantises, merges or unties
    as it reads them, buffers in the files, a head with a bias.
    """
    try:
        where = _files(folder)
        settings = AutoConfig.from_pretrained(folder)
        if where is None or getattr(settings, "quantization_config", None):
            return None
        model = hollow_model(settings, attention, dtype)
    except (OSError, ValueError, KeyError, ImportError, SafetensorError):
        return None  # whoever loads it whole says what is wrong
    head = model.get_output_embeddings()
    named = dict(model.named_parameters())
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - set(named)
    buffers = set(model.state_dict()) - set(named) - tied
    fits = all(name in where and where[name][1] == tuple(parameter.shape) for name, parameter in named.items())
    if not fits or buffers or tied & set(where) or type(head) is not nn.Linear or head.bias is not None or _layers(model) is None:
        return None
    for name, parameter in named.items():
        setattr(parameter, SOURCE, _reader(where[name][0], name, dtype))
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    model.config._name_or_path = model.name_or_path = str(folder)
    return model.eval()


def _files(folder: Path) -> dict[str, tuple[Path, tuple[int, ...]]] | None:
    """(file, shape) of each tensor that safetensors files of `folder` hold; None where there are none."""
    names = [folder / WHOLE]
    if (folder / INDEX).is_file():
        content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = sorted({folder / file for file in content["weight_map"].values()})
    found = {}
    for path in names:
        if not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            found |= {name: (path, tuple(file.get_slice(name).get_shape())) for name in file.keys()}  # noqa: SIM118 - no mapping
    return found


def _reader(path: Path, name: str, dtype: torch.dtype) -> Source:
    def read(rows: int | None = None) -> Tensor:
        with safe_open(path, framework="pt") as file:
            part = file.get_slice(name)
            return (part[:] if rows is None else part[:rows]).to(dtype, copy=True)

    return read


def set_rows(model: PreTrainedModel, old: int, rows: dict[str, Tensor]) -> None:
    """Behind the first `old` rows of the tables of a hollow model put those of `rows`: `embedding`, and `head` where it is not
    tied. What `resize_token_embeddings` does to a whole model."""
    embedding, head = cast(nn.Embedding, model.get_input_embeddings()), cast(nn.Linear, model.get_output_embeddings())
    tied = head.weight is embedding.weight
    size = old + len(rows["embedding"])
    embedding.weight = _longer(cast(nn.Parameter, embedding.weight), old, rows["embedding"])
    head.weight = embedding.weight if tied else _longer(cast(nn.Parameter, head.weight), old, rows["head"])
    embedding.num_embeddings = head.out_features = size
    model.config.get_text_config().vocab_size = size
    cast(Any, model).vocab_size = size


def resize(model: PreTrainedModel, size: int) -> None:
    """Give the tables of a model without sources `size` rows."""
    embedding, head = cast(nn.Embedding, model.get_input_embeddings()), cast(nn.Linear, model.get_output_embeddings())
    width, dtype = embedding.weight.shape[1], embedding.weight.dtype
    set_rows(model, 0, dict.fromkeys(("embedding", "head"), torch.full((), torch.nan, dtype=dtype).expand(size, width)))
    for parameter in {embedding.weight, head.weight}:
        setattr(parameter, SOURCE, None)


def _longer(weight: nn.Parameter, old: int, behind: Tensor) -> nn.Parameter:
    def read(rows: int | None = None) -> Tensor:
        size = old + len(behind)
        wanted = size if rows is None else min(rows, size)
        if wanted <= old:
            return values(weight, wanted)
        found = torch.empty(wanted, weight.shape[1], dtype=weight.dtype)
        found[:old] = values(weight, old)
        found[old:] = behind[: len(found) - old]
        return found

    return hollow((old + len(behind), weight.shape[1]), weight.dtype, read, weight.requires_grad)


def cut_rows(weight: nn.Parameter, rows: int) -> tuple[nn.Parameter, nn.Parameter]:
    """(the first `rows` of a hollow table, frozen and hollow; those behind them, which have values and learn)."""

    whole = rows

    def read(rows: int | None = None) -> Tensor:
        return values(weight, whole if rows is None else min(rows, whole))

    first = hollow((whole, weight.shape[1]), weight.dtype, read, learns=False)
    if getattr(weight, SOURCE) is None:
        return first, hollow((len(weight) - whole, weight.shape[1]), weight.dtype, None)
    return first, nn.Parameter(values(weight)[whole:].clone())


@contextmanager
def first_layers(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """While inside, a hollow model is one with values that is made of its first layers (as many as it takes to have one of each
    kind, and two at least) and of the first `PROBE_ROWS` rows of its tables; a whole model is left as it is.

    For checks of what a class computes, which a model of 70 B parameters on every rank would not be worth.
    """
    if not is_hollow(model):
        yield
        return
    decoder = cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model
    found = _layers(decoder)
    assert found is not None  # else it would not be hollow
    parent, name, layers = found
    setattr(parent, name, layers[: _enough(layers, decoder.config.get_text_config())])
    tables = {id(parameter) for parameter in _tables(decoder)}
    lent = [parameter for parameter in decoder.parameters() if hasattr(parameter, SOURCE)]
    empty = [parameter.data for parameter in lent]
    try:
        for parameter in lent:
            parameter.data = values(parameter, PROBE_ROWS if id(parameter) in tables else None)
        yield
    finally:
        setattr(parent, name, layers)
        for parameter, data in zip(lent, empty, strict=True):
            parameter.data = data


def _tables(model: PreTrainedModel) -> list[nn.Parameter]:
    modules = cast(list[nn.Module], [model.get_input_embeddings(), model.get_output_embeddings()])
    return [parameter for module in modules for name, parameter in module.named_parameters() if name == "weight"]


def _layers(model: PreTrainedModel) -> tuple[nn.Module, str, nn.ModuleList] | None:
    """(module, attribute, list) of the decoder's layers."""
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return module, name, child
    return None


def _enough(layers: nn.ModuleList, settings: PreTrainedConfig) -> int:
    types = getattr(settings, "layer_types", None) or [None] * len(layers)
    kinds = [(kind, tuple(type(module) for module in layer.modules())) for kind, layer in zip(types, layers, strict=True)]
    return max(2, max(kinds.index(kind) for kind in set(kinds)) + 1)
