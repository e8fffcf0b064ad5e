"""A checkpoint as a folder that transformers loads with no code of mmpt: `AutoModelForCausalLM` and `AutoTokenizer`."""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from tokenizers import AddedToken
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from mmpt.chat import ChatFormat, ChatMarker
from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.adaptation import merge_adapter, save_adapter
from mmpt.model.export_llava import as_llava
from mmpt.model.export_vllm import CODES, add_tokenizers, check_for_vllm
from mmpt.model.feature_inputs import FOLDER, FeatureInputs
from mmpt.model.loading import FORMAT, load_parts
from mmpt.storage import check_folder, published_folder
from mmpt.tokenizers.quiet import no_progress_bars
from mmpt.tokenizers.text import load_text_tokenizer
from mmpt.vocabulary import Vocabulary

EXPORT = "mmpt-export/1"


def export_hf(
    checkpoint: Path,
    out: Path,
    dtype: torch.dtype = torch.float32,
    keep_adapter: bool = False,
    llava: bool = False,
    vllm: bool = False,
) -> list[str]:
    """Write `checkpoint` as the folder `out`; returns lines on what is in there, and what cannot be.

    Adapters are merged into the weights, or with `keep_adapter` lie as a peft folder in `out`/adapter. Every id above the
    text's is an added token of the tokenizer, `<|image_00017|>` and so on, all of them special, which
    `split_special_tokens=True` keeps users from typing. Raises `CheckpointError` where the checkpoint is not whole or has no
    text tokenizer, `ConfigError` where `out` is there already.

    With `llava` it is transformers' Llava, with the encoder and the connector of pictures inside, and a processor. Raises
    `ConfigError` where they do not fit in there. With `vllm` the tokenizers of codes lie beside the model. Raises `ConfigError`
    where the model reads more than ids.
    """
    checkpoint, out = Path(checkpoint), Path(out)
    if out.exists():
        raise ConfigError(f"{out}: it exists already")
    check_folder(checkpoint, FORMAT)
    if not (checkpoint / "text_tokenizer").is_dir():
        raise CheckpointError(f"{checkpoint}: text_tokenizer/ is missing, the ids of its text have no meaning")
    if vllm:
        check_for_vllm(checkpoint, keep_adapter)
    model, vocabulary = load_parts(checkpoint, dtype=dtype)
    tokenizer = extended_tokenizer(load_text_tokenizer(checkpoint / "text_tokenizer"), vocabulary)
    chat = ChatFormat.load(checkpoint)
    end = None
    if chat is not None:
        end = ChatMarker(chat, load_text_tokenizer(checkpoint / "text_tokenizer"), vocabulary).end
        tokenizer.chat_template = chat.template  # with its marks by name, whatever bos_token and eos_token are from now on
    if llava and (keep_adapter or not (checkpoint / FOLDER).is_dir()):
        reason = "adapters are merged in there" if keep_adapter else f"{checkpoint} has no {FOLDER}/"
        raise ConfigError(f"export: no Llava can be made: {reason}")
    said = [f"{vocabulary.size} ids, of them {vocabulary.size - vocabulary.text_size} added tokens"]
    with published_folder(out, {"format": EXPORT}) as folder, no_progress_bars():
        if isinstance(model, PeftModel) and keep_adapter:
            save_adapter(model, None, folder / "adapter")
            model = model.unload()
            said.append("adapter/: a peft folder")
        elif isinstance(model, PeftModel):
            model = merge_adapter(model)
            said.append("adapters merged")
        model.generation_config = GenerationConfig(
            bos_token_id=vocabulary.special("<|begin|>"),
            eos_token_id=_ends(model, vocabulary, end),
            pad_token_id=vocabulary.special("<|end|>"),
        )
        if llava:
            whole, processor = as_llava(model, FeatureInputs.load(checkpoint / FOLDER, model), tokenizer, vocabulary)
            whole.generation_config = model.generation_config
            whole.save_pretrained(folder)
            processor.save_pretrained(folder)
            said.append("a Llava with the encoder and connector of pictures")
        else:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        vocabulary.save(folder)
        if vllm:
            add_tokenizers(checkpoint, folder)
            said.append(f"{CODES}/: the tokenizers, for mmpt serve --engine")
    if chat is not None:
        said.append("the chat template of its training; apply_chat_template gives the same ids")
    if (checkpoint / FOLDER).is_dir() and not llava:
        said.append(f"{FOLDER}/ (encoders and connectors of media) stays behind: of pictures, --to llava may have a place for it")
    return said


def _ends(model: PreTrainedModel, vocabulary: Vocabulary, turn: int | None) -> int | list[int]:
    """Where generation ends: `<|end|>`, the end of a `turn`, and what the backbone ended its turns with (an instruct model has
    several)."""
    ends = [vocabulary.special("<|end|>")] + ([] if turn is None else [turn])
    for settings in (model.generation_config, model.config.get_text_config()):
        own = getattr(settings, "eos_token_id", None)
        ends += [] if own is None else own if isinstance(own, list) else [own]
    ends = [token for token in dict.fromkeys(ends) if token == ends[0] or 0 <= token < vocabulary.text_size]
    return ends[0] if len(ends) == 1 else ends


def extended_tokenizer(tokenizer: PreTrainedTokenizerBase, vocabulary: Vocabulary) -> PreTrainedTokenizerBase:
    """`tokenizer` with a special token for each id above the text's. Raises `ConfigError` where they would get other ids."""
    if len(tokenizer) != vocabulary.text_size:
        raise ConfigError(f"the text tokenizer has {len(tokenizer)} ids, the vocabulary {vocabulary.text_size} of text")
    names = vocabulary.added_tokens()
    added: list[Any] = [AddedToken(name, special=True, normalized=False) for name in names]
    tokenizer.add_tokens(added, special_tokens=True)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = "<|begin|>", "<|end|>", "<|end|>"
    if tokenizer.convert_tokens_to_ids([names[0], names[-1]]) != [vocabulary.text_size, vocabulary.size - 1]:
        raise ConfigError("the text tokenizer knows some of the added tokens already, under other ids")
    return tokenizer
