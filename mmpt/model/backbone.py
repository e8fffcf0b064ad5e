"""Any decoder language model that transformers loads, with one embedding row for each id of the vocabulary.

The class and the names of the weights stay those of Hugging Face, so a saved backbone opens anywhere.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.model.changing import changed
from mmpt.model.config import BackboneConfig
from mmpt.model.factors import FILE, restore_layers, saved_layers
from mmpt.model.hollow import is_hollow, open_hollow, set_rows, values
from mmpt.model.packed_attention import NAME as PACKED_ATTENTION
from mmpt.model.row_init import RowInitialization
from mmpt.storage import is_missing_folder
from mmpt.tokenizers.quiet import no_progress_bars

FILE_KEYS = {"architectures", "auto_map", "transformers_version", "torch_dtype", "_name_or_path", "max_window_layers"}
"""What a published config.json says about itself (the weights here have a type of their own), and what Qwen's mixtures of experts
carry along from its dense models."""
ROPE_KEYS = {"rope_theta", "rope_scaling", "partial_rotary_factor"}
"""Older spellings of `rope_parameters` that every configuration of transformers takes."""


def build_backbone(
    config: BackboneConfig,
    vocabulary_size: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    sequences: Iterable[Sequence[int]] = (),
    text_size: int | None = None,
    hollow: bool = False,
) -> PreTrainedModel:
    """The decoder with `vocabulary_size` embedding rows and packed attention, in training mode.

    A pure function of its arguments: the caller's random state is neither used nor changed. Of pretrained weights the first
    `text_size` rows stay (None: all, as for weights that have learned the whole vocabulary); a table that was padded beyond its
    tokenizer's ids has more, which nobody trained. The rows behind them start as `config.row_init` says, which may
    read `sequences` of ids. `hollow`: see `load_backbone`. Raises `ConfigError` naming what cannot be loaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.path is None:
            model = _initialised(config.config or {}, vocabulary_size, dtype)
            config.linear.put_into(model, seed)
            return model.train()
        factors = (Path(config.path).parent / FILE).is_file()
        hollow = hollow and not factors and not config.change
        model = load_backbone(Path(config.path) if Path(config.path).exists() else config.path, dtype, hollow)
        if (saved := saved_layers(Path(config.path).parent)) is not None and saved[0] == config.linear:
            restore_layers(model, Path(config.path).parent)
        elif config.linear.kind != config.linear.default_kind:
            raise ConfigError(
                f"backbone.linear: {config.linear.kind} trains from scratch, or goes on with the same settings where {FILE} lies "
                "beside the backbone"
            )
        if config.change:
            model = changed(model, config.change, seed, sequences := list(sequences))
        rows = cast(nn.Embedding, model.get_input_embeddings()).weight.shape[0]
        old = min(rows, vocabulary_size) if text_size is None else text_size
        if not old == rows == vocabulary_size:
            grow(model, old, vocabulary_size, config.row_init, torch.Generator().manual_seed(seed), sequences)
    return model.train()


def load_backbone(path: Path | str, dtype: torch.dtype = torch.float32, hollow: bool = False) -> PreTrainedModel:
    """A causal language model with its weights from a folder or a Hugging Face name. Raises `ConfigError` where that fails.

    `hollow`: its weights stay in their files until they are asked for (see `mmpt.model.hollow`), where the files hold them just
    as the class has them; where they do not, all are loaded.
    """
    _require(path)
    if hollow and (model := open_hollow(backbone_folder(str(path)), dtype, PACKED_ATTENTION)) is not None:
        return model
    options = {"dtype": dtype, "attn_implementation": PACKED_ATTENTION, "use_safetensors": True}
    if (Path(path) / "adapter_config.json").is_file():
        raise _only_adapters(path)
    try:
        with no_progress_bars():
            model = AutoModelForCausalLM.from_pretrained(path, **options)
    except (OSError, ValueError, KeyError, ImportError) as problem:
        pickled = sorted(Path(path).glob("pytorch_model*.bin")) if Path(path).is_dir() else []
        if pickled and not list(Path(path).glob("*.safetensors")):
            raise ConfigError(
                f"backbone {path}: its weights are pickled ({pickled[0].name}), which is not read; where you trust them, "
                f"transformers writes safetensors: AutoModelForCausalLM.from_pretrained({str(path)!r}).save_pretrained(NEW)"
            ) from None
        raise ConfigError(f"backbone {path}: no causal language model can be loaded: {_first_line(problem)}") from None
    if getattr(model, "_hf_peft_config_loaded", False):  # transformers puts a repository's adapters onto their base by itself
        raise _only_adapters(path)
    return model


def _require(path: Path | str) -> None:
    if is_missing_folder(path):
        raise ConfigError(f"backbone {path}: no such folder (recipes/train.py writes RUN/checkpoints/step-N/backbone)")


def _only_adapters(path: Path | str) -> ConfigError:
    return ConfigError(
        f"backbone {path}: adapters of peft (adapter_config.json), no whole model; merge them first: "
        f"AutoPeftModelForCausalLM.from_pretrained({str(path)!r}).merge_and_unload().save_pretrained(NEW)"
    )


def backbone_folder(path: str) -> Path:
    """`path` where it is a folder, else the snapshot of that name on the Hugging Face Hub: configuration, tokenizer, safetensors.

    Raises `ConfigError` where it is neither.
    """
    _require(path)
    if Path(path).is_dir():
        return Path(path)
    try:
        return Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]))
    except (OSError, ValueError) as problem:
        raise ConfigError(f"backbone {path}: no folder, and no model of the Hub: {_first_line(problem)}") from None


def backbone_settings(content: dict, vocabulary_size: int) -> PreTrainedConfig:
    """transformers' configuration of a `backbone.config`. Raises `ConfigError` where there is no such."""
    options = dict(content)
    with _config_refused():
        # Token ids of the model family's own tokenizer would point at wrong rows here.
        tokens = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
        settings = AutoConfig.for_model(options.pop("model_type"), **{**tokens, **options, "vocab_size": vocabulary_size})
        unknown = sorted(set(options) - _known_keys(settings))
        if unknown:
            raise ValueError(f"{type(settings).__name__} has no {', '.join(unknown)}")
    return settings


def _initialised(content: dict, vocabulary_size: int, dtype: torch.dtype) -> PreTrainedModel:
    settings = backbone_settings(content, vocabulary_size)
    with _config_refused():
        return AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation=PACKED_ATTENTION).train()


@contextmanager
def _config_refused() -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, RuntimeError, StrictDataclassError) as problem:
        raise ConfigError(f"backbone.config: no causal language model can be built: {_first_line(problem)}") from None


def _known_keys(settings: PreTrainedConfig) -> set[str]:
    """Keys that mean something to this kind of configuration: its own, their other names, and what the code of the model asks for
    without their being declared (`getattr(config, "head_dim", …)`)."""
    kind = type(settings)
    model = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    source = inspect.getsource(sys.modules[model.__module__])
    asked = re.findall(r"\bconfig\.(\w+)|getattr\(\s*(?:self\.)?config,\s*[\"'](\w+)", source)
    return {*kind().to_dict(), *kind.attribute_map, *(name for names in asked for name in names), *FILE_KEYS, *ROPE_KEYS}


def grow(
    model: PreTrainedModel,
    old: int,
    size: int,
    row_init: RowInitialization,
    generator: torch.Generator,
    sequences: Iterable[Sequence[int]] = (),
) -> None:
    """Give `model` `size` rows in embedding and head, those from `old` on as `row_init` makes them of the first `old`.

    Raises `ConfigError` where there are no `old` rows, or `sequences` do not serve `row_init`.
    """
    rows = cast(nn.Embedding, model.get_input_embeddings()).weight.shape[0]
    if rows < old:
        raise ConfigError(f"backbone: it has {rows} embedding rows, the text tokenizer has {old} ids")
    sequences = list(sequences) if row_init.reads_text else ()  # read once for each of two tables

    def fresh(weight: torch.Tensor) -> torch.Tensor:
        try:
            return row_init.new_rows(weight, size - old, generator, sequences)
        except ValueError as problem:
            raise ConfigError(f"backbone.row_init: {problem}") from None

    if is_hollow(model):
        embedding, head = model.get_input_embeddings(), cast(torch.nn.Linear, model.get_output_embeddings())
        tables = {"embedding": cast(torch.Tensor, embedding.weight), "head": head.weight}
        if tables["embedding"] is tables["head"]:
            del tables["head"]
        made = {name: fresh(values(weight, old)) if size > old else weight[:0] for name, weight in tables.items()}
        set_rows(model, min(old, size), made)
        return
    model.resize_token_embeddings(size, mean_resizing=False)
    embedding, head = cast(nn.Embedding, model.get_input_embeddings()), cast(nn.Linear, model.get_output_embeddings())
    tables = {id(weight): weight for weight in (embedding.weight, head.weight)}  # one where they are tied
    for weight in tables.values() if size > old else ():
        rows = fresh(weight[:old])
        with torch.no_grad():
            weight[old:] = rows
    if isinstance(head, nn.Linear) and head.bias is not None and size > old:
        with torch.no_grad():
            head.bias[old:] = head.bias[:old].mean()


def _first_line(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem).strip().splitlines()[0] if str(problem).strip() else ''}"
