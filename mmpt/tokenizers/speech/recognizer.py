"""Encoder and text decoder of a speech tokenizer: small ones from scratch, or those of a Whisper checkpoint.

A Whisper is imported where one is asked for: it takes transformers' modelling code along, which is seconds.
"""

from torch import nn

from mmpt.tokenizers.speech.config import SpeechConfig, WhisperConfig
from mmpt.tokenizers.speech.encoder import SpeechEncoder
from mmpt.tokenizers.speech.text_decoder import TextDecoder


def build_recognizer(config: SpeechConfig, text_size: int) -> tuple[nn.Module, nn.Module]:
    """(encoder, text decoder) of `config`, with random weights. Both kinds have the methods of `SpeechEncoder`, `TextDecoder`."""
    if isinstance(config.encoder, WhisperConfig):
        from mmpt.tokenizers.speech.whisper import WhisperReader, WhisperSpeechEncoder, whisper_model

        model = whisper_model(config)
        return WhisperSpeechEncoder(config, model.model.encoder), WhisperReader(config, model)
    shape = config.encoder
    return SpeechEncoder(config), TextDecoder(text_size, shape.dim, shape.heads, shape.text_layers, shape.dropout)


def build_encoder(config: SpeechConfig) -> nn.Module:
    """The encoder of `config` with random weights, for `states` and `quantize` alone: of a Whisper, the layers up to the
    quantiser and neither those above nor the text decoder."""
    if isinstance(config.encoder, WhisperConfig):
        from mmpt.tokenizers.speech.whisper import WhisperSpeechEncoder, whisper_up_to_the_cut

        return WhisperSpeechEncoder(config, whisper_up_to_the_cut(config))
    return SpeechEncoder(config)
