"""Every source by the name that a specification gives it."""

from typing import Annotated

import pydantic

from mmpt.data.sources import (
    markdown,
    recordings,
    shards,
    spoken_scenes,
    sprites,
)

MODULES = {
    "markdown": markdown,
    "recordings": recordings,
    "shards": shards,
    "spoken_scenes": spoken_scenes,
    "sprites": sprites,
}
"""`kind` → the module with its `units` and `read`, see `mmpt.data.sources.base`."""

SourceConfig = Annotated[
    (
        markdown.MarkdownConfig
        | recordings.RecordingsConfig
        | shards.ShardsConfig
        | spoken_scenes.SpokenScenesConfig
        | sprites.SpritesConfig
    ),
    pydantic.Field(discriminator="kind"),
]
"""The configuration of any of them."""
