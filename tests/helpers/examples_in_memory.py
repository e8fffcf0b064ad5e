"""Training batches of tokenizers from examples that a test makes in memory."""

from collections.abc import Callable, Sequence

import numpy as np

from mmpt.tokenizers.image.batches import BatchPlan, ImageBatch, ImageExample, picture_batches, prepared
from mmpt.tokenizers.image.config import ImageTokenizerConfig
from mmpt.tokenizers.speech.batches import Plan, SpeechBatch, SpeechExample, utterance, utterance_batches
from mmpt.tokenizers.speech.config import SpeechConfig


def image_batches(
    examples: Sequence[ImageExample], config: ImageTokenizerConfig, fit: BatchPlan
) -> Callable[[int, int, int], ImageBatch]:
    """`picture_batches` of `examples`, squashed once here."""
    pictures = [prepared(example, config) for example in examples]
    return picture_batches(pictures, max((len(picture.caption) for picture in pictures), default=0), config, fit)


def speech_batches(examples: Sequence[SpeechExample], config: SpeechConfig, fit: Plan) -> Callable[[int, int, int], SpeechBatch]:
    """`utterance_batches` of `examples`, whose features are computed once here."""
    samples = np.array([len(example.samples) for example in examples])
    return utterance_batches([utterance(example, config) for example in examples], samples, config, fit)
