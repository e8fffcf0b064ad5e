"""How fast a GPU makes codes of speech, with an encoder of whisper-large-v3's size (tokenizers/speech_whisper.yaml).

Its weights are random.

    python tokenizers/benches/speech_encoding.py

Noise of 3 to 30 s, from the host to codes on the host: seconds of speech a second, and the share of the peak of an H100 that
the encoder's operations take. Writes tokenizers/results/speech_encoding_gpu.json.
"""

import statistics
import sys
import time
from collections.abc import Iterator

import digits
import numpy as np
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode
from transformers import WhisperConfig

from mmpt.results import Figure, gather
from mmpt.tokenizers.speech.coder import SpeechCoder
from mmpt.tokenizers.speech.config import SpeechConfig

H100_BF16 = 989e12
LARGE_V3 = {"num_mel_bins": 128, "d_model": 1280, "encoder_layers": 32, "encoder_attention_heads": 20, "encoder_ffn_dim": 5120,
            "decoder_layers": 32, "decoder_attention_heads": 20, "decoder_ffn_dim": 5120, "vocab_size": 51_866}  # fmt: skip


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("speech_encoding.py measures a GPU, and torch finds none; tokenizers/benches/encoding.py measures a CPU")
    sys.exit(0 if gather(figures("cuda", LARGE_V3), digits.RESULTS / "speech_encoding_gpu.json") else 1)


def figures(device: str, shape: dict, clips: int = 64, rounds: int = 10) -> Iterator[Figure]:
    spec = yaml.safe_load((digits.ROOT / "tokenizers" / "speech_whisper.yaml").read_text(encoding="utf-8"))["tokenizer"]
    known = WhisperConfig(**shape)
    encoder = {**spec["encoder"], "checkpoint": "", "prompt": (), "architecture": known.to_dict()}
    encoder["layer"] = known.encoder_layers // 2
    quantizer = {**spec["quantizer"], "dim": known.d_model}
    config = SpeechConfig(**{**spec, "encoder": encoder, "quantizer": quantizer, "mels": known.num_mel_bins, "decoder": {}})
    coder = SpeechCoder(config, config.encoder.build(config)).to(device).eval().requires_grad_(False)
    if device == "cuda":
        coder.encoder.bfloat16()
    draw = np.random.default_rng(0)
    heard = [draw.normal(0, 0.1, int(16_000 * seconds)).astype(np.float32) for seconds in np.linspace(3, 30, clips)]
    with FlopCounterMode(display=False) as counter:
        coder.encode(heard)  # warms up, too
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        coder.encode(heard)
        times.append(time.perf_counter() - began)
    spent = statistics.median(times)
    yield Figure("seconds of speech a second", sum(map(len, heard)) / 16_000 / spent)
    yield Figure("TFLOP for a minute of speech", counter.get_total_flops() * 60 / (sum(map(len, heard)) / 16_000) / 1e12)
    if device == "cuda":
        yield Figure("share of the bf16 peak of an H100", counter.get_total_flops() / spent / H100_BF16)


if __name__ == "__main__":
    main()
