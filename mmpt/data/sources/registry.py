"""Every source by the name that a specification gives it."""

from typing import Annotated

import pydantic

from mmpt.data.sources import (
    aligned_lists,
    common_voice,
    conversations,
    html,
    image_text_table,
    image_text_tars,
    lectures,
    lhotse,
    librispeech,
    ljspeech,
    markdown,
    mmc4,
    nemo,
    plain_text,
    recordings,
    shards,
    spoken_scenes,
    sprites,
)

MODULES = {
    "aligned_lists": aligned_lists,
    "common_voice": common_voice,
    "conversations": conversations,
    "html": html,
    "image_text_table": image_text_table,
    "image_text_tars": image_text_tars,
    "lectures": lectures,
    "lhotse": lhotse,
    "librispeech": librispeech,
    "ljspeech": ljspeech,
    "markdown": markdown,
    "mmc4": mmc4,
    "nemo": nemo,
    "plain_text": plain_text,
    "recordings": recordings,
    "shards": shards,
    "spoken_scenes": spoken_scenes,
    "sprites": sprites,
}
"""`kind` → the module with its `units` and `read`, see `mmpt.data.sources.base`."""

SourceConfig = Annotated[
    (
        aligned_lists.AlignedListsConfig
        | common_voice.CommonVoiceConfig
        | conversations.ConversationsConfig
        | html.HtmlConfig
        | image_text_table.ImageTextTableConfig
        | image_text_tars.ImageTextTarsConfig
        | lectures.LecturesConfig
        | lhotse.LhotseConfig
        | librispeech.LibriSpeechConfig
        | ljspeech.LJSpeechConfig
        | markdown.MarkdownConfig
        | mmc4.Mmc4Config
        | nemo.NemoConfig
        | plain_text.PlainTextConfig
        | recordings.RecordingsConfig
        | shards.ShardsConfig
        | spoken_scenes.SpokenScenesConfig
        | sprites.SpritesConfig
    ),
    pydantic.Field(discriminator="kind"),
]
"""The configuration of any of them."""
