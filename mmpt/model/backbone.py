"""Any decoder language model that transformers loads, with one embedding row for each id of the vocabulary.

The class and the names of the weights stay those of Hugging Face, so a saved backbone opens anywhere.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

from mmpt.errors import ConfigError
from mmpt.model.config import BackboneConfig
from mmpt.model.growth import Growth, new_rows
from mmpt.model.packed_attention import NAME as PACKED_ATTENTION
from mmpt.storage import is_missing_folder


def build_backbone(
    config: BackboneConfig,
    vocabulary_size: int,
    seed: int,
    dtype: torch.dtype = torch.float32,
    sequences: Iterable[Sequence[int]] = (),
) -> PreTrainedModel:
    """The decoder with `vocabulary_size` embedding rows and packed attention, in training mode.

    A pure function of its arguments: the caller's random state is neither used nor changed. Rows beyond those of pretrained
    weights start as `config.growth` says, `constrained_word2vec` from `sequences` of ids, which no other growth reads. Raises
    `ConfigError` naming what cannot be loaded.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.path is None:
            return _initialised(config.config, vocabulary_size, dtype)
        model = load_backbone(Path(config.path) if Path(config.path).exists() else config.path, dtype)
        old = model.get_input_embeddings().weight.shape[0]
        if vocabulary_size != old:
            grow(model, min(old, vocabulary_size), vocabulary_size, config.growth, torch.Generator().manual_seed(seed), sequences)
    return model.train()


def load_backbone(path: Path | str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A causal language model with its weights from a folder or a Hugging Face name. Raises `ConfigError` where that fails."""
    _require(path)
    options = {"dtype": dtype, "attn_implementation": PACKED_ATTENTION, "use_safetensors": True}
    try:
        with no_progress_bars():
            return AutoModelForCausalLM.from_pretrained(path, **options)
    except (OSError, ValueError, KeyError, ImportError) as problem:
        raise ConfigError(f"backbone {path}: no causal language model can be loaded: {_first_line(problem)}") from None


def backbone_folder(path: str) -> Path:
    """`path` where it is a folder, else the snapshot of that name on the Hugging Face Hub: configuration, tokenizer, safetensors.

    Raises `ConfigError` where it is neither.
    """
    if Path(path).is_dir():
        return Path(path)
    _require(path)
    try:
        return Path(snapshot_download(path, allow_patterns=["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]))
    except (OSError, ValueError) as problem:
        raise ConfigError(f"backbone {path}: no folder, and no model of the Hub: {_first_line(problem)}") from None


def _require(path: Path | str) -> None:
    if is_missing_folder(path):
        raise ConfigError(f"backbone {path}: no such folder (recipes/pretrain.py writes RUN/checkpoints/step-N/backbone)")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing a bar for each file it reads or writes."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def _initialised(content: dict, vocabulary_size: int, dtype: torch.dtype) -> PreTrainedModel:
    options = dict(content)
    try:
        # Token ids of the model family's own tokenizer would point at wrong rows here.
        tokens = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
        settings = AutoConfig.for_model(options.pop("model_type"), **{**tokens, **options, "vocab_size": vocabulary_size})
        unknown = [key for key in options if key not in type(settings)().to_dict()]
        if unknown:
            raise ValueError(f"{type(settings).__name__} has no {', '.join(unknown)}")
        return AutoModelForCausalLM.from_config(settings, dtype=dtype, attn_implementation=PACKED_ATTENTION).train()
    except (ValueError, TypeError, KeyError, RuntimeError, StrictDataclassError) as problem:
        raise ConfigError(f"backbone.config: no causal language model can be built: {_first_line(problem)}") from None


def grow(
    model: PreTrainedModel,
    old: int,
    size: int,
    growth: Growth,
    generator: torch.Generator,
    sequences: Iterable[Sequence[int]] = (),
) -> None:
    """Give `model` `size` rows in embedding and head, those from `old` on as `growth` says of the first `old`.

    Raises `ConfigError` where there are no `old` rows, or `sequences` do not serve `growth`.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    if rows < old:
        raise ConfigError(f"backbone: it has {rows} embedding rows, the text tokenizer has {old} ids")
    model.resize_token_embeddings(size, mean_resizing=False)
    head = model.get_output_embeddings()
    tables = {id(weight): weight for weight in (model.get_input_embeddings().weight, head.weight)}
    sequences = list(sequences) if growth == "constrained_word2vec" else ()
    for weight in tables.values() if size > old else ():
        try:
            fresh = new_rows(weight[:old], size - old, growth, generator, sequences)
        except ValueError as problem:
            raise ConfigError(f"backbone.growth: {problem}") from None
        with torch.no_grad():
            weight[old:] = fresh
    if isinstance(head, nn.Linear) and head.bias is not None and size > old:
        with torch.no_grad():
            head.bias[old:] = head.bias[:old].mean()


def _first_line(problem: Exception) -> str:
    return f"{type(problem).__name__}: {str(problem).strip().splitlines()[0] if str(problem).strip() else ''}"
