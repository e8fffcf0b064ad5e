"""A tiny Whisper with random weights, and speech tokenizers that begin from it."""

import numpy as np
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.text import train_text_tokenizer

DIM, MELS, POSITIONS = 16, 16, 60


def save(folder, kind: type = WhisperForConditionalGeneration, **changes):
    """`folder` with a tiny checkpoint of random weights."""
    torch.manual_seed(0)
    values = {
        "vocab_size": 280, "num_mel_bins": MELS, "d_model": DIM, "encoder_layers": 3, "decoder_layers": 2,
        "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32,
        "max_source_positions": POSITIONS, "max_target_positions": 40, "decoder_start_token_id": 270, "eos_token_id": 271,
        "bos_token_id": 271, "pad_token_id": 271, "suppress_tokens": None, "begin_suppress_tokens": None, **changes,
    }  # fmt: skip
    model = kind(WhisperConfig(**values))
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return folder


TEXT = train_text_tokenizer(["a b"], 270)


def config(checkpoint, quantizer: dict | None = None, pool: int = 2, encoder: dict | None = None, **changes) -> SpeechConfig:
    values = {
        "quantizer": quantizer or {"kind": "fsq", "levels": [8, 8]},
        "encoder": {"kind": "whisper", "checkpoint": str(checkpoint), "layer": 2, "overlap": 4, **(encoder or {})},
        "decoder": {"dim": 16, "heads": 2, "layers": 1, "blocks": 1},
        "mels": MELS, "pool": pool, "window": POSITIONS // pool, **changes,
    }  # fmt: skip
    given = SpeechConfig(**values)
    return given.encoder.settled(given, TEXT)


def build(checkpoint, **changes) -> SpeechTokenizer:
    torch.manual_seed(0)
    settled = config(checkpoint, **changes)
    model = SpeechTokenizer(settled, TEXT)
    settled.encoder.take_weights(model.encoder, model.reader)
    return model.eval()


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
