"""A decoder with an encoder and a connector of pictures as transformers' Llava (Liu et al. 2023, arXiv:2304.08485)."""

from typing import cast

import torch
from torch import nn
from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from mmpt.errors import ConfigError
from mmpt.model.config import FeatureInputConfig, PictureFeaturesConfig
from mmpt.model.connecting import FeatureMap
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.tokenizers.image.towers._transformers import TransformersTower
from mmpt.tokenizers.image.towers.transformers import Transformers
from mmpt.vocabulary import Vocabulary

SLOT = "<|feature|>"


def as_llava(
    model: PreTrainedModel, inputs: FeatureInputs, tokenizer: Tokenizer, vocabulary: Vocabulary
) -> tuple[LlavaForConditionalGeneration, LlavaProcessor]:
    """The modules of `model` and `inputs` in a Llava, and what makes its inputs: in a text, one `<|feature|>` between the marks
    `<|image|>` and `<|/image|>` stands for a picture. Raises `ConfigError` naming what Llava has no place for."""
    tower, chosen = _tower(inputs), cast(Transformers, cast(PictureFeaturesConfig, inputs.configs["image"].encoder).tower)
    vision = tower.model.config
    strategy = "default" if chosen.patches_only and tower.prefix == 1 else "full"
    config = LlavaConfig(
        vision_config=vision,
        text_config=model.config,
        image_token_index=vocabulary.special(SLOT),
        image_seq_length=inputs.rows["image"],
        projector_hidden_act="gelu" if inputs.configs["image"].connector.kind == "mlp" else "linear",
        vision_feature_layer=cast(int, chosen.layer),
        vision_feature_select_strategy=strategy,
        tie_word_embeddings=model.config.tie_word_embeddings,
    )
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(config)
    llava.model.vision_tower = tower.model
    llava.model.language_model = model.base_model
    llava.lm_head = cast(nn.Linear, model.get_output_embeddings())
    _project(llava.model.multi_modal_projector, cast(FeatureMap, inputs.connectors["image"]).map)
    images = CLIPImageProcessor(
        size={"height": vision.image_size, "width": vision.image_size},
        resample=3,  # bicubic
        do_center_crop=False,
        image_mean=tower.mean.flatten().tolist(),
        image_std=tower.std.flatten().tolist(),
    )
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=strategy,
        chat_template=tokenizer.chat_template,
        image_token=SLOT,
        num_additional_image_tokens=tower.prefix,
    )
    return llava.eval(), processor


def _tower(inputs: FeatureInputs) -> TransformersTower:
    config: FeatureInputConfig | None = inputs.configs.get("image")
    encoder = inputs.encoder("image") if config is not None else None
    if config is None or len(inputs.configs) > 1 or not isinstance(encoder, TransformersTower):
        raise ConfigError("export: Llava takes features of pictures alone, from a tower of kind transformers")
    chosen = cast(Transformers, cast(PictureFeaturesConfig, config.encoder).tower)
    side = cast(PictureFeaturesConfig, config.encoder).side
    odd = {
        "tower.layer": chosen.layer is None and "a number: Llava counts hidden states",
        "tower.patches_only": chosen.patches_only and encoder.prefix > 1 and "false: Llava leaves out one token, not registers",
        "side": side != encoder.model.config.image_size and f"{encoder.model.config.image_size}, that of the tower",
        "tiles": config.tiles is not None and "null",
        "reduce": config.reduce is not None and "null",
        "enters": config.enters.kind != "rows" and "rows",
        "connector": config.connector.kind not in ("linear", "mlp") and "linear or mlp",
        "connector.start_token": config.connector.start_token and "false",
    }
    problems = [f"features.image.{key}: expected {wanted}" for key, wanted in odd.items() if wanted]
    if problems:
        raise ConfigError("export: Llava has no place for this connector\n  " + "\n  ".join(problems))
    return encoder


def _project(projector: nn.Module, connector: nn.Module) -> None:
    """A linear map is one of two, the other of which changes nothing."""
    if isinstance(connector, nn.Linear):
        same = nn.Linear(connector.out_features, connector.out_features)
        with torch.no_grad():
            same.weight.copy_(torch.eye(connector.out_features))
            same.bias.zero_()
        first, second = connector, same.to(connector.weight)
    else:
        first, _, second = cast(nn.Sequential, connector)
    projector.linear_1, projector.linear_2 = first, second
