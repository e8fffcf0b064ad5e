"""A vision language model of transformers as a checkpoint: its decoder, its vision tower and its projector with their weights."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PreTrainedModel, PreTrainedTokenizerBase

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.backbone import backbone_folder, grow
from mmpt.model.config import FeatureInputConfig
from mmpt.model.connecting import FeatureMap
from mmpt.model.feature_inputs import FOLDER, FeatureInputs
from mmpt.model.hub import CHECKPOINT, pulled
from mmpt.model.row_init.mean import Mean
from mmpt.model.vlm_chat import chat_of
from mmpt.model.vlm_parts import VisionParts, vision_parts
from mmpt.storage import link_tree, published_folder, read_json
from mmpt.tokenizers.image.towers._transformers import TransformersTower
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.quiet import no_progress_bars
from mmpt.vocabulary import Vocabulary

PROCESSORS = ("processor_config.json", "preprocessor_config.json")


def import_vlm(path: str, out: Path, speech: Path | None = None, image: Path | None = None) -> list[str]:
    """Write the model at `path`, a folder or a Hugging Face name, as the checkpoint `out`; returns lines on what is in there.

    `speech`, `image`: folders of tokenizers whose codes get rows of their own, which nobody has trained yet. The marks of mmpt
    that the model knows under names of its own start as the rows of those, other new rows as `row_init: mean` has them. Raises
    `ConfigError` where the model is none that mmpt has a place for, or `out` is there already.
    """
    if out.exists():
        raise ConfigError(f"{out}: it exists already")
    folder = backbone_folder(str(pulled(path)))
    tokenizer = MultimodalTokenizer.load(folder, speech, image)
    vocabulary, text = tokenizer.vocabulary, tokenizer.text
    whole = _opened(folder)
    parts = vision_parts(whole, _picture_settings(folder))
    decoder = _decoder(whole)
    grow(decoder, vocabulary.text_size, vocabulary.size, Mean(), torch.Generator().manual_seed(0))
    known = _known_rows(text, parts, vocabulary)
    with torch.no_grad():
        for table in (decoder.get_input_embeddings(), decoder.get_output_embeddings()):
            for new, old in known.items():
                weight = cast(torch.Tensor, cast(nn.Module, table).weight)
                weight[new] = weight[old]
    inputs = _inputs(parts, decoder, folder)
    chat = chat_of(text, folder, cast(str, text.convert_ids_to_tokens(parts.picture)), vocabulary)
    with published_folder(out, {"format": CHECKPOINT, "step": 0}) as temporary, no_progress_bars():
        decoder.save_pretrained(temporary / "backbone")
        vocabulary.save(temporary)
        text.save_pretrained(temporary / "text_tokenizer")
        for name, tokenizer_folder in (("speech_tokenizer", speech), ("image_tokenizer", image)):
            if tokenizer_folder is not None:
                link_tree(tokenizer_folder, temporary / name)
        if chat is not None:
            chat.save(temporary)
        inputs.save_encoders(temporary / FOLDER)
        inputs.save_connectors(temporary / FOLDER)
    return [
        f"{type(decoder).__name__}, {vocabulary.size} ids, of them {vocabulary.text_size} of text",
        f"a picture enters as {inputs.rows['image']} rows" + (" for each tile" if inputs.configs["image"].tiles else ""),
        "its chat template" if chat else "no chat template that marks what the assistant says (chat: in datasets/to_tokens.py)",
    ]


def _opened(folder: Path) -> PreTrainedModel:
    try:
        with no_progress_bars():
            return AutoModelForImageTextToText.from_pretrained(folder, dtype="auto", use_safetensors=True).eval()
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as problem:
        reason = " ".join(str(problem).split())[:200]
        raise ConfigError(f"{folder}: no vision language model of transformers can be loaded: {reason}") from None


def _picture_settings(folder: Path) -> dict[str, Any]:
    """What the files of a processor say about pictures."""
    found = next((read_json(folder / name, CheckpointError) for name in PROCESSORS if (folder / name).is_file()), {})
    return found.get("image_processor", found)


def _decoder(whole: PreTrainedModel) -> PreTrainedModel:
    """The language model of `whole` as the causal model of its own class."""
    inner, head = cast(Any, whole).model.language_model, cast(nn.Linear, whole.get_output_embeddings())
    inner.config.tie_word_embeddings = head.weight is inner.get_input_embeddings().weight
    with torch.device("meta"):
        decoder = AutoModelForCausalLM.from_config(inner.config)
    setattr(decoder, decoder.base_model_prefix, inner)
    decoder.set_output_embeddings(head)
    return decoder.eval()


def _known_rows(text: PreTrainedTokenizerBase, parts: VisionParts, vocabulary: Vocabulary) -> dict[int, int]:
    """Ids of mmpt's marks → the ids under which the model knows them."""
    names = {"<|begin|>": text.bos_token, "<|end|>": text.eos_token}
    if parts.marks is not None:
        names |= dict(zip(("<|image|>", "<|/image|>"), parts.marks, strict=True))
    ids = text.get_vocab()
    return {vocabulary.special(mark): ids[name] for mark, name in names.items() if name in ids}


def _inputs(parts: VisionParts, decoder: PreTrainedModel, folder: Path) -> FeatureInputs:
    content = dict(parts.settings)
    content["encoder"]["tower"]["model"] = str(folder)
    config = parse_config(content, FeatureInputConfig, "import")
    inputs = FeatureInputs({"image": config}, decoder, pretrained=False)
    tower = cast(TransformersTower, inputs.encoder("image"))
    if config.encoder.tower.patches_only and tower.prefix != 1:  # pyright: ignore[reportAttributeAccessIssue]
        raise ConfigError(
            f"import: vision_feature_select_strategy: default leaves out one token, in front of patches there are {tower.prefix}"
        )
    tower.model = parts.tower.eval().requires_grad_(False)
    cast(FeatureMap, inputs.connectors["image"]).map.load_state_dict(parts.connector)
    return inputs
