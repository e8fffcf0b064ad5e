"""What a speech tokenizer takes of a Whisper checkpoint: its shape, checked against the configuration, and its weights."""

from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, GenerationConfig, PreTrainedTokenizerBase, WhisperForConditionalGeneration
from transformers import WhisperConfig as HuggingFaceConfig

from mmpt.errors import ConfigError
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.encoders._whisper import WhisperSpeechEncoder
from mmpt.tokenizers.speech.encoders._whisper_reader import WhisperReader
from mmpt.tokenizers.speech.encoders.whisper import Whisper
from mmpt.tokenizers.speech.recognizer import EncoderModule, TextDecoder


def with_architecture(config: SpeechConfig, shape: Whisper, text: PreTrainedTokenizerBase) -> SpeechConfig:
    """`config`, whose encoder is `shape`, with the shape of its Whisper checkpoint filled in, and its prompt as ids of `text`.

    Raises `ConfigError` naming all that does not fit, the text tokenizer included.
    """
    try:
        known = AutoConfig.from_pretrained(shape.checkpoint)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"encoder.checkpoint: {shape.checkpoint}: no model can be loaded ({problem})") from None
    if not isinstance(known, HuggingFaceConfig):
        raise ConfigError(f"encoder.checkpoint: {shape.checkpoint} is a {known.model_type} model, expected whisper")
    problems = _misfits(config, shape, known) + _foreign_text(shape, text, known)
    if problems:
        raise ConfigError("\n  ".join([f"{shape.checkpoint}: does not fit the configuration", *problems]))
    prompt = tuple(_id(token, text) for token in shape.prompt) or (known.decoder_start_token_id,)
    read = _generation(shape.checkpoint)
    found = {
        "architecture": known.to_dict(),
        "prompt": prompt,
        "never": tuple(read.suppress_tokens or ()),
        "never_first": tuple(read.begin_suppress_tokens or ()),
    }
    filled = shape.model_copy(update=found)
    return config.model_copy(update={"encoder": filled})


def take_weights(encoder: EncoderModule, reader: TextDecoder, shape: Whisper) -> None:
    """Copy the weights of the checkpoint of `shape` into both, as float32; the second position table begins at zero: pooled
    states still hold the positions of the first, and the same once more, as GLM-4-Voice begins, makes them unreadable. Where it
    is `fixed`, what lies behind the quantiser is left to learn (the text decoder only where nothing is restored before it), and
    where the codebook learns what comes right before it.

    Raises `ConfigError` where a weight is missing or has another shape: nothing is left random in silence.
    """
    if not isinstance(encoder, WhisperSpeechEncoder) or not isinstance(reader, WhisperReader):
        raise TypeError(f"weights of a Whisper for {type(encoder).__name__} and {type(reader).__name__}")
    name = shape.checkpoint
    try:
        loaded = WhisperForConditionalGeneration.from_pretrained(
            name, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as problem:
        raise ConfigError(f"encoder.checkpoint: {name}: its weights cannot be loaded ({problem})") from None
    model, found = cast(tuple[WhisperForConditionalGeneration, dict[str, Any]], loaded)  # two, with output_loading_info
    if missing := sorted(found["missing_keys"]):
        some = ", ".join(missing[:3])
        raise ConfigError(f"encoder.checkpoint: {name} lacks {len(missing)} weights of a Whisper for transcription: {some}, …")
    encoder.whisper.load_state_dict(model.model.encoder.state_dict())
    reader.decoder.load_state_dict(model.model.decoder.state_dict())
    if reader.head is not None:
        reader.head.load_state_dict(model.proj_out.state_dict())
    with torch.no_grad():
        encoder.code_positions.weight.zero_()
    if shape.fixed:
        for part in (encoder, reader):
            part.requires_grad_(False)
        behind = (encoder.from_code, *encoder.whisper.layers[shape.layer :], encoder.whisper.layer_norm)
        reads = (reader.decoder.layers, reader.decoder.layer_norm) if encoder.restorer is None else (encoder.restorer,)
        makes = () if encoder.config.quantizer.settled else (encoder.to_code, encoder.quantizer)
        for part in (*behind, *reads, *makes):
            part.requires_grad_(True)


def _generation(checkpoint: str) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(checkpoint)
    except OSError:  # a checkpoint need not say how it is to be read
        return GenerationConfig()


def _misfits(config: SpeechConfig, shape: Whisper, known: HuggingFaceConfig) -> list[str]:
    pairs = [
        (shape.layer <= known.encoder_layers, f"encoder.layer is {shape.layer}, the checkpoint has {known.encoder_layers}"),
        (config.mels == known.num_mel_bins, f"mels is {config.mels}, the checkpoint takes {known.num_mel_bins}"),
        (
            config.window * config.pool <= known.max_source_positions,
            f"window is {config.window} codes, at most {known.max_source_positions // config.pool} fit the checkpoint",
        ),
        (2 * shape.overlap < config.window, f"encoder.overlap {shape.overlap} leaves nothing of the window {config.window}"),
        (not shape.block or config.window % shape.block == 0, f"window {config.window} is no multiple of block {shape.block}"),
        (not shape.block or shape.overlap % shape.block == 0, f"overlap {shape.overlap} is no multiple of block {shape.block}"),
    ]
    return [problem for fits, problem in pairs if not fits]


def _foreign_text(shape: Whisper, text: PreTrainedTokenizerBase, known: HuggingFaceConfig) -> list[str]:
    """Signs that `text` is not the checkpoint's own tokenizer, whose ids its decoder has learned."""
    problems = []
    if len(text) > known.vocab_size:
        problems.append(f"text_tokenizer has {len(text)} ids, the checkpoint knows {known.vocab_size}")
    if text.eos_token_id not in (None, known.eos_token_id):
        problems.append(f"text_tokenizer ends a text with id {text.eos_token_id}, the checkpoint with {known.eos_token_id}")
    for token in shape.prompt:
        if _id(token, text) not in range(known.vocab_size):
            problems.append(f"encoder.prompt: {token!r} is no token of text_tokenizer")
    if len(shape.prompt) >= known.max_target_positions:
        problems.append(f"encoder.prompt has {len(shape.prompt)} tokens, the checkpoint reads {known.max_target_positions}")
    return problems


def _id(token: int | str, text: PreTrainedTokenizerBase) -> int:
    """−1 where `text` has no such token; `convert_tokens_to_ids` would give the unknown token's."""
    return token if isinstance(token, int) else text.get_vocab().get(token, -1)
