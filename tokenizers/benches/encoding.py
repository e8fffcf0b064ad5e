"""How fast a speech tokenizer encodes, and that it encodes the same however it is asked.

    python tokenizers/benches/encoding.py TOKENIZER [SHARDS]

Speed on one core: 300 strings of spoken digits (or the utterances of SHARDS), batched by length, beside the plain path of
transformers, the Whisper feature extractor and an encoder of as many parameters, one utterance at a time, each padded to 30 s as
Whisper asks for, and without that padding. Sameness: a stream against the whole, a batch of 1 against 16, with a causal encoder
of the same shape and with TOKENIZER. Writes tokenizers/results/encoding.json.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import digits
import numpy as np
import torch
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mmpt.results import Figure, report
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("shards", type=Path, nargs="?")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = SpeechTokenizer.load(arguments.tokenizer)
    shards = arguments.shards or digits.strings(Path("runs/encoding/test"), digits.TEST, 300, 3, seed=1)
    waveforms, _ = digits.utterances(shards)
    seconds = sum(map(len, waveforms)) / tokenizer.sample_rate
    ways = [lambda: tokenizer.encode(waveforms), plain_path(tokenizer, waveforms, True), plain_path(tokenizer, waveforms, False)]
    times = in_turn(ways)
    ours, padded, unpadded = (statistics.median(row) for row in times)
    causal = causal_twin(tokenizer)
    figures = [
        Figure("real-time factor, batched", ours / seconds),
        Figure("real-time factor, plain path", padded / seconds),
        Figure("real-time factor, plain path without padding to 30 s", unpadded / seconds),
        Figure("plain path / batched", median_ratio(times[1], times[0]), 3.0),
        Figure("plain path without padding / batched", median_ratio(times[2], times[0])),
        Figure("codes that differ: batch of 1, batch of 16", differing_in_batches(tokenizer, waveforms), 0, at_most=True),
        Figure("codes that differ: stream, whole", differing_in_streams(tokenizer, waveforms), 0, at_most=True),
        Figure("codes that differ: stream, whole (causal)", differing_in_streams(causal, waveforms), 0, at_most=True),
        Figure("codes compared", sum(map(len, tokenizer.encode(waveforms)))),
    ]
    sys.exit(0 if report(figures, digits.RESULTS / "encoding.json") else 1)


def in_turn(ways: Sequence[Callable]) -> list[list[float]]:
    """Seconds of each way in rounds in turn, after one unmeasured round."""
    times: list[list[float]] = [[] for _ in ways]
    for number in range(ROUNDS + 1):
        for way, row in zip(ways, times, strict=True):
            began = time.perf_counter()
            way()
            if number:
                row.append(time.perf_counter() - began)
    return times


def median_ratio(others: Sequence[float], ours: Sequence[float]) -> float:
    """The median over the rounds, each round's two measured one after the other."""
    return statistics.median(other / mine for other, mine in zip(others, ours, strict=True))


def plain_path(tokenizer: SpeechTokenizer, waveforms: Sequence[np.ndarray], padded: bool) -> Callable:
    """transformers' extractor and encoder, as wide as ours and of as many parameters as ours has up to the codes."""
    ours = tokenizer.encoder
    parts = (ours.stem, ours.stem_norm, ours.convs, ours.before, ours.pooled, ours.to_code)
    wanted = sum(parameter.numel() for part in parts for parameter in part.parameters())
    dim = ours.shape.dim
    layers = 1
    while encoder_parameters(dim, layers + 1, tokenizer.config.mels) <= wanted:
        layers += 1
    encoder = whisper_encoder(dim, layers, tokenizer.config.mels).eval()
    extractor = WhisperFeatureExtractor(feature_size=tokenizer.config.mels)

    @torch.inference_mode()
    def encode() -> None:
        for samples in waveforms:
            options = {} if padded else {"padding": "longest"}
            features = extractor(samples, sampling_rate=16_000, return_tensors="pt", **options).input_features
            if not padded:  # the encoder takes its full window alone: its layers are given what there is
                states = torch.nn.functional.gelu(encoder.conv1(features))
                states = torch.nn.functional.gelu(encoder.conv2(states)).transpose(1, 2)
                states = states + encoder.embed_positions.weight[: states.shape[1]]
                for layer in encoder.layers:
                    out = layer(states, None)
                    states = out[0] if isinstance(out, tuple) else out
            else:
                encoder(features)

    return encode


def whisper_encoder(dim: int, layers: int, mels: int) -> WhisperEncoder:
    shape = {"d_model": dim, "encoder_layers": layers, "encoder_attention_heads": 4, "encoder_ffn_dim": 4 * dim}
    return WhisperEncoder(WhisperConfig(num_mel_bins=mels, **shape))


def encoder_parameters(dim: int, layers: int, mels: int) -> int:
    encoder = whisper_encoder(dim, layers, mels)
    return sum(parameter.numel() for name, parameter in encoder.named_parameters() if "embed_positions" not in name)


def differing_in_batches(tokenizer: SpeechTokenizer, waveforms: Sequence[np.ndarray]) -> float:
    """Codes of each utterance alone against those in batches of 16 of any lengths, filled up."""
    count = 0
    for start in range(0, len(waveforms), 16):
        batch = waveforms[start : start + 16]
        together = tokenizer.encode(batch)
        count += sum(int((tokenizer.encode([one])[0] != codes).sum()) for one, codes in zip(batch, together, strict=True))
    return float(count)


def differing_in_streams(tokenizer: SpeechTokenizer, waveforms: Sequence[np.ndarray]) -> float:
    """Codes of each utterance pushed in pieces of 0.1 to 0.7 s against those of the whole."""
    random, count = np.random.default_rng(0), 0
    for samples, whole in zip(waveforms[:100], tokenizer.encode(waveforms[:100]), strict=True):
        given, at = [], 0
        with tokenizer.streaming() as stream:
            while at < len(samples):
                step = int(random.integers(1600, 11_200))
                given.append(stream.push(samples[at : at + step]))
                at += step
            given.append(stream.finish())
        count += int((np.concatenate(given) != whole).sum())
    return float(count)


def causal_twin(tokenizer: SpeechTokenizer) -> SpeechTokenizer:
    """The same weights with causal convolutions and block-causal attention in blocks of one code."""
    config = tokenizer.config.model_copy(update={"encoder": tokenizer.config.encoder.model_copy(update={"block": 1})})
    twin = SpeechTokenizer(config, tokenizer.text)
    twin.load_state_dict({name: value for name, value in tokenizer.state_dict().items() if ".vocoder." not in name})
    return twin.eval()


if __name__ == "__main__":
    main()
