"""Codes of pictures as a language model gives them, to train an image tokenizer's decoder on (RobusTok, Qiu et al. 2025)."""

from collections.abc import Iterator, Sequence

import numpy as np

from mmpt.document import Text
from mmpt.errors import ConfigError
from mmpt.inference.load import MultimodalModel
from mmpt.inference.samplers.top_p import TopP


def generated_picture_codes(
    model: MultimodalModel, prompts: Sequence[str], temperature: float = 1.0, seed: int = 0, batch: int = 64
) -> Iterator[np.ndarray]:
    """Codes int64 [codes_per_image] of the first picture that answers each prompt; with pictures alone allowed, there is one.

    Raises `ConfigError` where the model has no image tokenizer.
    """
    vocabulary = model.tokenizer.vocabulary
    if not vocabulary.codes_per_image:
        raise ConfigError("the model has no image tokenizer")
    for start in range(0, len(prompts), batch):
        asked = model.prompts([(Text(prompt),) for prompt in prompts[start : start + batch]])
        settings = {"outputs": ["image"], "max_new_tokens": vocabulary.codes_per_image + 3, "seed": seed + start}
        rows = model.generate(asked, **settings, image=TopP(temperature=temperature))
        for row in rows:
            yield next(values for modality, values in vocabulary.split(row) if modality == "image")
