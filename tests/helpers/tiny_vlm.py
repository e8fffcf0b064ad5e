"""Vision language models of transformers at toy size, of random weights, as folders."""

from pathlib import Path

import torch
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
    SiglipVisionConfig,
)

from mmpt.tokenizers.text import train_text_tokenizer

WORDS = ["the red circle above a blue square, seen by someone who says: über naïve 日本語 cafés"]
VISION = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48, "image_size": 32,
          "patch_size": 8}  # fmt: skip
DECODER = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
SPECIAL = ["<s>", "</s>", "<image>", "<img>", "</img>"]
LLAVA_CHAT = (  # as llava-hf/llava-1.5-7b-hf has it, but for its spaces
    "{% for message in messages %}{{ message['role'].upper() + ': '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
INTERN_CHAT = (
    "{% for message in messages %}{{ '<s>' + message['role'] + ':' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<image>\n' }}{% else %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{ '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
)


def words(chat: str):
    tokenizer = train_text_tokenizer(WORDS, 300, SPECIAL)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.chat_template = "<s>", "</s>", chat
    return tokenizer


def saved(model, processor, chat: str, folder: Path) -> Path:
    """The model with weights that say something, and what belongs to it."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.mul_(3)
            elif "norm" not in name:
                value.normal_(std=0.1)
            else:
                value.add_(0.2 * torch.randn_like(value))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    words(chat).save_pretrained(folder)
    return folder


def write_llava(folder: Path, which: str = "clip") -> Path:
    """`which`: clip, siglip, or untied, whose embedding and head are two tables and whose projector has no biases."""
    torch.manual_seed(0)
    clip = which != "siglip"
    vision = CLIPVisionConfig(**VISION) if clip else SiglipVisionConfig(**VISION)
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(vocab_size=320, tie_word_embeddings=which != "untied", **DECODER),  # rows nobody has ids for
        image_token_index=2,
        vision_feature_layer=-2 if clip else -1,
        vision_feature_select_strategy="default" if clip else "full",
        multimodal_projector_bias=which != "untied",
        tie_word_embeddings=which != "untied",
    )
    processor = CLIPImageProcessor(
        size={"height": 32, "width": 32}, do_center_crop=False, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25]
    )
    return saved(LlavaForConditionalGeneration(config), processor, LLAVA_CHAT, folder)


def write_internvl(folder: Path) -> Path:
    torch.manual_seed(0)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**{**VISION, "use_qk_norm": True}),
        text_config=Qwen2Config(vocab_size=320, tie_word_embeddings=False, **DECODER),
        image_token_id=2,
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    processor = GotOcr2ImageProcessor(size={"height": 32, "width": 32}, crop_to_patches=True, max_patches=5)
    return saved(InternVLForConditionalGeneration(config), processor, INTERN_CHAT, folder)
