"""Training of tokenizers, vocoders and text-to-token models on document shards, from a specification to a folder.

What takes transformers' modelling code along, which is seconds, is imported where it is trained.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch

from mmpt.document import Text
from mmpt.errors import ConfigError, DataError
from mmpt.modality import SAMPLE_RATE
from mmpt.tokenizers.image.batches import ImageBatch, picture_batches
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.interface import AnySpeechTokenizer
from mmpt.tokenizers.load import load_speech_coder
from mmpt.tokenizers.speech.batches import Hear, SpeechExample, code_count, utterance_batches
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.speaking import DecoderTraining, SpeakingTraining, speaking_batches
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.speech.vocoder import load_vocoder, vocoder_batches
from mmpt.tokenizers.speech.vocoder_training import VocoderTraining
from mmpt.tokenizers.text import load_text_tokenizer, text_fingerprint, train_text_tokenizer
from mmpt.training.ahead import ahead
from mmpt.training.distributed import World
from mmpt.training.examples import Examples, features, known_codes, parts, pictures, recordings, spoken, utterances, with_codes
from mmpt.training.fit import fit
from mmpt.training.specs import FittedStage, ImageSpec, SpeakingSpec, SpeechSpec, TextSpec, TextToCodesSpec, VocoderSpec
from mmpt.training.stage_kinds import KINDS

BEGIN_FROM = 2000
"""Utterances, the first, from which a codebook behind a fixed encoder begins."""
SILENCE_FROM = 100
"""Utterances, the first, behind which silence is heard."""
MEASURED = 500
"""Utterances, the first, by which the loudness of codes is measured."""
REFINED_BY = 1024
"""Pictures by which the search for better codes is led."""
E = TypeVar("E")
ENCODED_TOGETHER = 3600 * SAMPLE_RATE
"""Samples of speech, an hour, that are decoded and encoded at once, those of like length together: more means less padding."""


Spec = TextSpec | SpeechSpec | SpeakingSpec | ImageSpec | VocoderSpec | TextToCodesSpec


def train_tokenizer(spec: Spec, folder: Path, world: World) -> int:
    """Train by `spec` and write the result; each stage's checkpoints and metrics.jsonl are in a subfolder of its name.

    The result is `folder`/tokenizer, /vocoder or /text_to_codes. Returns the signal that ended it early, else 0. Raises
    `DataError` where the shards hold nothing to train on.
    """
    if isinstance(spec, TextSpec):
        return _train_text(spec, folder, world)
    first = next(iter(spec.stages.given.values())).fit if isinstance(spec, ImageSpec) else spec.fit
    torch.manual_seed(first.seed if first else 0)
    train = {
        "speech": _train_speech,
        "speaking": _train_speaking,
        "image": _train_image,
        "vocoder": _train_vocoder,
        "text_to_codes": _train_text_to_codes,
    }
    return train[spec.kind](spec, folder, world)


def _train_text(spec: TextSpec, folder: Path, world: World) -> int:
    if world.rank == 0:
        texts = (part.text for _, part in parts(spec.data, Text, None) if isinstance(part, Text))
        first = next(texts, None)
        if first is None:
            raise DataError(f"no text in {', '.join(map(str, spec.data))}")
        train_text_tokenizer(chain([first], texts), spec.ids, spec.special).save_pretrained(folder / "tokenizer")
    return 0


def _train_speech(spec: SpeechSpec, folder: Path, world: World) -> int:
    text = load_text_tokenizer(spec.text_tokenizer)
    config = spec.tokenizer.encoder.settled(spec.tokenizer, text)
    model = SpeechTokenizer(config, text)
    config.encoder.take_weights(model.encoder, model.reader)
    # Before the training, so that a folder without one is said at once.
    vocoder = load_vocoder(spec.vocoder, config.mels) if spec.vocoder else None
    # What `why_not_learned` depends on: with other settings, other utterances can be learned from.
    settings = {
        "window": config.window,
        "samples_per_code": config.samples_per_code,
        "tokens": model.reader.most_tokens,
        "text": text_fingerprint(text),
        "lessons": config.encoder.model_dump(mode="json") if config.encoder.heard_once and spec.fit else None,
    }
    rate, learned = model.sample_rate, model.why_not_learned
    # By a copy that stays as it is: what does not fit in memory is heard and read anew all through the training.
    hear = _hearing(copy.deepcopy(model.to(world.device)).eval(), spec.fit is not None)
    examples = features(spec.data, config, rate, spec.examples, folder, world, spec.cache_mib, learned, settings, hear)
    samples = examples.sizes
    if hear and (hidden := [one.hidden for one in islice(examples, BEGIN_FROM) if one.hidden is not None]):
        model.encoder.begin([one.float().to(world.device) for one in hidden])
        model.encoder.hear_silence(one.mel for one in islice(examples, SILENCE_FROM))
    stopped = 0
    if spec.fit:
        longest = min(config.longest or config.window, code_count(int(samples.max()), config))
        model.config = config.model_copy(update={"longest": longest})  # what the text decoder has learned to read
        with ahead(utterance_batches(examples, samples, spec.tokenizer, spec.fit)) as batches:
            stopped = fit(model, batches, spec.fit, folder / "recognition", world)
    if spec.speak and not stopped:
        with ahead(utterance_batches(examples, samples, spec.tokenizer, spec.speak)) as batches:
            stopped = fit(DecoderTraining(model), batches, spec.speak, folder / "speaking", world)
    if world.rank == 0 and not stopped:
        model.choose_default_voice(examples.made_by(lambda part: spoken(part, rate).samples))
        model.measure_loudness(islice(examples, MEASURED))
        if vocoder:
            model.use_vocoder(vocoder)
        model.save(folder / "tokenizer")
    return stopped


def _hearing(model: SpeechTokenizer, taught: bool) -> Hear | None:
    """What a fixed encoder hears of an utterance, and of one that is `taught` what is to be read of it."""
    if not model.config.encoder.heard_once:
        return None
    return model.study if taught else model.listen


def _train_speaking(spec: SpeakingSpec, folder: Path, world: World) -> int:
    model = SpeechTokenizer.load(spec.tokenizer)
    if spec.decoder or spec.decoder_from:
        model.use_decoder(spec.decoder or SpeechTokenizer.load(cast(Path, spec.decoder_from)).speaker)
    if spec.vocoder:
        model.use_vocoder(load_vocoder(spec.vocoder, model.config.mels))
    model.to(world.device)
    sounds = recordings(spec.data, model.sample_rate, spec.examples, folder, world, spec.cache_mib)
    # A few hundred bytes for a second of speech at most: they stay in memory.
    codes = known_codes(sounds, spec.codes) if spec.codes else dict(enumerate(_codes(model, sounds)))
    codes = {number: model.vectors(row, number) for number, row in codes.items()}
    learner = SpeakingTraining(model.speaker, model.encoder.quantizer)
    learner.begin(sounds, codes)
    with ahead(speaking_batches(sounds, codes, model.config, spec.crop, spec.fit)) as batches:
        stopped = fit(learner, batches, spec.fit, folder / "speaking", world)
    if world.rank == 0 and not stopped:
        model.choose_default_voice(sounds)
        model.save(folder / "tokenizer")
    return stopped


def _train_vocoder(spec: VocoderSpec, folder: Path, world: World) -> int:
    model = spec.vocoder.build()
    learner = VocoderTraining(model, spec.adversaries) if spec.adversaries else model
    sounds = recordings(spec.data, spec.vocoder.rate, spec.examples, folder, world, spec.cache_mib)
    with ahead(vocoder_batches(sounds, spec.vocoder, spec.fit, sounds.sizes)) as batches:
        stopped = fit(learner, batches, spec.fit, folder / "vocoding", world)
    if world.rank == 0 and not stopped:
        model.save(folder / "vocoder")
    return stopped


def _train_text_to_codes(spec: TextToCodesSpec, folder: Path, world: World) -> int:
    from mmpt.tokenizers.speech.text_to_codes import SpeechCodes, TextToCodes, codes_batches, pace

    tokenizer = load_speech_coder(spec.speech_tokenizer).to(world.device)
    if tokenizer.figures.codebooks > 1:
        raise ConfigError(
            f"{spec.speech_tokenizer}: {tokenizer.figures.codebooks} codebooks, expected one: the model knows no turns"
        )
    examples = utterances(spec.data, tokenizer.sample_rate, spec.examples, folder, world)
    speech = SpeechCodes.of(spec.speech_tokenizer, tokenizer.figures.codes, tokenizer.figures.rate)
    # Text and codes of everything are a few hundred bytes for a second of speech at most: they stay in memory.
    pairs = [pair for group in _groups(examples, examples.sizes) for pair in _encoded(tokenizer, group)]
    text = load_text_tokenizer(spec.text_tokenizer)
    config = spec.model if spec.model.pace else spec.model.model_copy(update={"pace": pace(pairs, text)})
    model = TextToCodes(config, text, speech)
    with ahead(codes_batches(model, pairs, spec.fit)) as batches:
        stopped = fit(model, batches, spec.fit, folder / "speaking", world)
    if world.rank == 0 and not stopped:
        model.save(folder / "text_to_codes")
    return stopped


def _codes(tokenizer: SpeechCoder, sounds: Examples[np.ndarray]) -> Iterator[np.ndarray]:
    return (row for group in _groups(sounds, sounds.sizes) for row in tokenizer.encode(group))


def _groups(examples: Sequence[E], samples: np.ndarray) -> Iterator[list[E]]:
    """The examples in order, decoded, as many together as make about `ENCODED_TOGETHER` samples."""
    edges = np.flatnonzero(np.diff(np.cumsum(samples) // ENCODED_TOGETHER)) + 1
    for start, end in zip([0, *edges.tolist()], [*edges.tolist(), len(samples)], strict=True):
        yield [examples[number] for number in range(start, end)]


def _encoded(tokenizer: AnySpeechTokenizer | SpeechCoder, examples: Sequence[SpeechExample]) -> list[tuple[str, np.ndarray]]:
    codes = tokenizer.encode([example.samples for example in examples])
    return [(example.text, row.astype(np.int32)) for example, row in zip(examples, codes, strict=True)]


def _train_image(spec: ImageSpec, folder: Path, world: World) -> int:
    # The schema asks for one of the two.
    model = ImageTokenizer(spec.tokenizer) if spec.tokenizer else ImageTokenizer.load(cast(Path, spec.start))
    if spec.stages.quantize and not model.config.branches:
        raise ConfigError(f"{spec.start}: configured without `branches`, which stages.quantize trains")
    examples = pictures(spec.data, model.config, spec.examples, folder, world, spec.cache_mib)
    words = int(examples.sizes.max())

    def batches_of(stage: FittedStage) -> Callable[[int, int, int], ImageBatch]:
        config, known = model.config, examples
        if augment := getattr(stage, "augment", None):
            config = config.model_copy(update={"augment": augment})
            known = pictures(spec.data, config, spec.examples, folder, world, spec.cache_mib)  # what is kept may be larger
        return picture_batches(with_codes(known, getattr(stage, "generated_codes", None), config), words, config, stage.fit)

    stages = spec.stages.given
    for name, stage in stages.items():
        with ahead(batches_of(stage)) as batches:
            stopped = fit(KINDS[name](model, stage), batches, stage.fit, folder / name, world)
        if stopped:
            return stopped
    if world.rank == 0:
        if model.refiner is not None:
            last = list(stages.values())[-1]
            batch, count = batches_of(last), math.ceil(REFINED_BY / last.fit.batch_size)
            model.measure_refining(batch(step, 0, 1).pixels for step in range(count))
        model.save(folder / "tokenizer")
    return 0
