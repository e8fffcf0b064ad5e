"""A whole checkpoint at toy size: tokenizers and decoder of random weights, saved as a run saves them."""

from pathlib import Path

import numpy as np
import torch
from examples_in_memory import image_batches
from PIL import Image
from transformers import PreTrainedTokenizerBase

from mmpt.chat import ChatConfig
from mmpt.config import parse_config
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.loading import FORMAT
from mmpt.storage import link_tree, published_folder
from mmpt.tokenizers.image.batches import ImageExample
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.image.stages import JointConfig, JointStage
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.speech.vocoders.istft import Istft
from mmpt.tokenizers.text import train_text_tokenizer

BACKBONE = {"model_type": "qwen3", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True}  # fmt: skip
WORDS = ["the red circle above a blue square, seen by someone who says: über naïve 日本語 cafés"]
MELS = 16


class _Plan:
    batch_size, seed = 6, 3


def speech_tokenizer(block: int | None = 5) -> SpeechTokenizer:
    """With a block decoder and a vocoder, so that sound can be streamed."""
    torch.manual_seed(0)
    config = SpeechConfig(
        quantizer={"kind": "fsq", "levels": [4, 4]},
        encoder={"dim": 16, "heads": 2, "conv_blocks": 0, "layers_pooled": 1, "attention": 1, "layers_after": 1},
        decoder={"dim": 16, "heads": 2, "layers": 1, "blocks": 1, "attention": 1, "block": block, "flow": None},
        mels=MELS,
        window=30,
    )
    model = SpeechTokenizer(config, train_text_tokenizer(["a b"], 260)).eval()
    model.use_vocoder(Istft(mels=MELS, dim=16, blocks=1).build())
    model.default_voice.normal_()
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return model


def image_tokenizer(**changes) -> ImageTokenizer:
    torch.manual_seed(0)
    content = {
        "side": 16, "tower": {"patch": 4, "width": 32, "depth": 1, "heads": 4},
        "qformer": {"queries": 5, "width": 32, "depth": 1, "heads": 4},
        "quantizer": {"kind": "ema", "codes": 16, "dim": 6, "normalize": True},
        "decoder": {"patch": 4, "width": 32, "depth": 1, "heads": 4},
        "captions": {"words": 6, "buckets": 64, "width": 16, "depth": 1, "heads": 2, "dim": 8},
        **changes,
    }  # fmt: skip
    model = ImageTokenizer(parse_config(content, ImageTokenizerConfig, "tiny"))
    draw = np.random.default_rng(0)
    shown = [ImageExample(Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)), "a") for _ in range(24)]
    JointStage(model, JointConfig()).loss(image_batches(shown, model.config, _Plan())(0), 0.9)  # starts the codebook
    return model.eval()


def write_checkpoint(
    folder: Path,
    sharp: float = 8.0,
    text: PreTrainedTokenizerBase | None = None,
    chat: ChatConfig | None = None,
    image: ImageTokenizer | None = None,
    **backbone,
) -> Path:
    """`sharp` widens the embeddings, so that what came before matters to what comes next."""
    parts = folder / "parts"
    text = text or train_text_tokenizer(WORDS, 300)
    text.save_pretrained(parts / "text_tokenizer")
    speech_tokenizer().save(parts / "speech_tokenizer")
    (image or image_tokenizer()).save(parts / "image_tokenizer")
    names = ("text_tokenizer", "speech_tokenizer", "image_tokenizer")
    vocabulary = MultimodalTokenizer.load(*(parts / name for name in names)).vocabulary
    model = build_backbone(BackboneConfig(config={**BACKBONE, **backbone}), vocabulary.size, seed=1)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(sharp)
    checkpoint = folder / "run" / "checkpoints" / "step-00000001"
    with published_folder(checkpoint, {"format": FORMAT, "step": 1}) as temporary:
        model.save_pretrained(temporary / "backbone")
        vocabulary.save(temporary)
        if chat is not None:
            chat.of(text).save(temporary)
        for name in names:
            link_tree(parts / name, temporary / name)
    return folder / "run"
