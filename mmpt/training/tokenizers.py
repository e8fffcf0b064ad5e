"""Training of tokenizers, vocoders and text-to-token models on document shards, from a specification to a folder.

What takes transformers' modelling code along, which is seconds, is imported where it is trained.
"""

from pathlib import Path

import torch

from mmpt.document import Speech, Text
from mmpt.errors import ConfigError, DataError
from mmpt.media import decode_speech
from mmpt.tokenizers.image.batches import image_batches
from mmpt.tokenizers.image.stages import (
    AlignStage,
    DrawStage,
    JointStage,
    QuantizeStage,
)
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.speech.batches import code_count, speech_batches
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.tokenizer import DecoderTraining, SpeechTokenizer
from mmpt.tokenizers.speech.vocoder import load_vocoder, vocoder_batches
from mmpt.tokenizers.text import load_text_tokenizer, train_text_tokenizer
from mmpt.training.distributed import World
from mmpt.training.examples import parts, pictures, utterances, with_codes
from mmpt.training.fit import fit
from mmpt.training.specs import ImageSpec, SpeechSpec, TextSpec, TextToCodesSpec, VocoderSpec


def train_tokenizer(spec: TextSpec | SpeechSpec | ImageSpec | VocoderSpec | TextToCodesSpec, folder: Path, world: World) -> int:
    """Train by `spec` and write the result; each stage's checkpoints and metrics.jsonl are in a subfolder of its name.

    The result is `folder`/tokenizer, /vocoder or /text_to_codes. Returns the signal that ended it early, else 0. Raises
    `DataError` where the shards hold nothing to train on.
    """
    if isinstance(spec, TextSpec):
        return _train_text(spec, folder, world)
    first = next(iter(spec.stages.given.values())).fit if isinstance(spec, ImageSpec) else spec.fit
    torch.manual_seed(first.seed)
    train = {"speech": _train_speech, "image": _train_image, "vocoder": _train_vocoder, "text_to_codes": _train_text_to_codes}
    return train[spec.kind](spec, folder, world)


def _train_text(spec: TextSpec, folder: Path, world: World) -> int:
    if world.rank == 0:
        texts = [part.text for _, part in parts(spec.data, Text, None)]
        if not texts:
            raise DataError(f"no text in {', '.join(map(str, spec.data))}")
        train_text_tokenizer(texts, spec.ids).save_pretrained(folder / "tokenizer")
    return 0


def _train_speech(spec: SpeechSpec, folder: Path, world: World) -> int:
    text = load_text_tokenizer(spec.text_tokenizer)
    config = spec.tokenizer.encoder.settled(spec.tokenizer, text)
    model = SpeechTokenizer(config, text)
    config.encoder.take_weights(model.encoder, model.reader)
    # Before the training, so that a folder without one is said at once.
    vocoder = load_vocoder(spec.vocoder, config.mels) if spec.vocoder else None
    examples = utterances(spec.data, model.sample_rate, spec.examples, folder, world, model.why_not_learned)
    longest = max(code_count(len(example.samples), config) for example in examples)
    model.config = config.model_copy(update={"longest": longest})  # what the text decoder has learned to read
    stopped = fit(model, speech_batches(examples, spec.tokenizer, spec.fit), spec.fit, folder / "recognition", world)
    if spec.speak and not stopped:
        speaking = DecoderTraining(model)
        stopped = fit(speaking, speech_batches(examples, spec.tokenizer, spec.speak), spec.speak, folder / "speaking", world)
    if world.rank == 0 and not stopped:
        model.choose_default_voice(examples)
        if vocoder:
            model.use_vocoder(vocoder)
        model.save(folder / "tokenizer")
    return stopped


def _train_vocoder(spec: VocoderSpec, folder: Path, world: World) -> int:
    model = spec.vocoder.build()
    sounds = [decode_speech(part.data) for _, part in parts(spec.data, Speech, spec.examples)]
    stopped = fit(model, vocoder_batches(sounds, spec.vocoder, spec.fit), spec.fit, folder / "vocoding", world)
    if world.rank == 0 and not stopped:
        model.save(folder / "vocoder")
    return stopped


def _train_text_to_codes(spec: TextToCodesSpec, folder: Path, world: World) -> int:
    from mmpt.tokenizers.speech.text_to_codes import SpeechCodes, TextToCodes, codes_batches, pace

    tokenizer = SpeechCoder.load(spec.speech_tokenizer).to(world.device)
    examples = utterances(spec.data, tokenizer.sample_rate, spec.examples, folder, world)
    codes = tokenizer.encode([example.samples for example in examples])
    speech = SpeechCodes.of(spec.speech_tokenizer, tokenizer.codes, tokenizer.rate)
    pairs = [(example.text, row) for example, row in zip(examples, codes, strict=True)]
    text = load_text_tokenizer(spec.text_tokenizer)
    config = spec.model if spec.model.pace else spec.model.model_copy(update={"pace": pace(pairs, text)})
    model = TextToCodes(config, text, speech)
    stopped = fit(model, codes_batches(model, pairs, spec.fit), spec.fit, folder / "speaking", world)
    if world.rank == 0 and not stopped:
        model.save(folder / "text_to_codes")
    return stopped


def _train_image(spec: ImageSpec, folder: Path, world: World) -> int:
    model = ImageTokenizer.load(spec.start) if spec.start else ImageTokenizer(spec.tokenizer)
    if spec.stages.quantize and not model.config.branches:
        raise ConfigError(f"{spec.start}: configured without `branches`, which stages.quantize trains")
    examples = pictures(spec.data, spec.examples)
    kinds = {"joint": JointStage, "align": AlignStage, "quantize": QuantizeStage, "draw": DrawStage, "harden": DrawStage}
    for name, stage in spec.stages.given.items():
        chosen = with_codes(examples, getattr(stage, "generated_codes", None))
        batches = image_batches(chosen, model.config, stage.fit)
        stopped = fit(kinds[name](model, stage), batches, stage.fit, folder / name, world)
        if stopped:
            return stopped
    if world.rank == 0:
        model.save(folder / "tokenizer")
    return 0
