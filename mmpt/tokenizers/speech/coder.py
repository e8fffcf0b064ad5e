"""Speech to codes, and nothing else: what is needed to tokenize a corpus."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from mmpt.codebooks import FrameWriter
from mmpt.config import parse_config
from mmpt.errors import CheckpointError, DataError
from mmpt.storage import check_folder, read_json
from mmpt.tokenizers.evaluating import evaluating
from mmpt.tokenizers.figures import SpeechFigures
from mmpt.tokenizers.quantized import Quantized
from mmpt.tokenizers.speech.batches import code_count
from mmpt.tokenizers.speech.config import FORMAT, SAMPLE_RATE, SpeechConfig
from mmpt.tokenizers.speech.recognizer import EncoderModule
from mmpt.tokenizers.speech.streaming import SpeechStream, checked, wanted
from mmpt.tokenizers.speech.windows import windows

_BATCH = 32


class SpeechCoder(nn.Module):
    """Encoder and codebook. Loaded alone, it leaves out both decoders and, of a Whisper encoder, the layers after the quantiser:
    of whisper-large-v3 cut after layer 16, four fifths of the weights."""

    sample_rate = SAMPLE_RATE

    def __init__(self, config: SpeechConfig, encoder: EncoderModule):
        super().__init__()
        self.config = config
        self.encoder = encoder

    @property
    def codes(self) -> int:
        """Size of the code space; 0 without a quantiser."""
        return self.config.quantizer.codes

    @property
    def rate(self) -> float:
        """Codes for each second; of a residual quantiser, those of all stages."""
        return self.figures.rate

    @property
    def figures(self) -> SpeechFigures:
        """How many codes, and how often."""
        return self.config.figures

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes of each waveform (float32 [samples], 16 kHz): int64 [ceil(samples ÷ samples_per_code) · depth], at least one.

        Codes of a residual quantiser come in the order of `config.layout`. Audio of any length is taken in windows that overlap
        by all that a code depends on. Raises `DataError` naming a waveform that is no sound, and where there is no quantiser.
        """
        if not self.codes:
            raise DataError("this tokenizer was trained without a quantiser: it has no codes")
        writers = (self._writer() for _ in waveforms)
        found = self._quantized(waveforms, lambda found: found.codes)
        return [np.concatenate([one.push(self._frames(codes)), one.finish()]) for one, codes in zip(writers, found, strict=True)]

    def _writer(self) -> FrameWriter:
        depth = self.config.quantizer.depth
        return FrameWriter(depth, self.codes // depth, self.config.layout)

    def _frames(self, codes: np.ndarray) -> np.ndarray:
        """Codes [C] or [C, depth] of the quantiser as frames [C, depth], those of each stage numbered from 0."""
        depth = self.config.quantizer.depth
        return codes.reshape(-1, depth) % (self.codes // depth)

    @contextmanager
    def streaming(self) -> Iterator[SpeechStream]:
        """A stream of audio to codes: `push(samples)` and at the end `finish()` give the codes of `encode`, as soon as they are
        final: where the encoder is causal, at the end of their own span."""

        def frames(piece: np.ndarray) -> np.ndarray:
            return self._frames(self._codes_of([piece])[0])

        yield SpeechStream(self.config.samples_per_code, self.encoder.context, frames, self._writer())

    @classmethod
    def load(cls, folder: Path) -> "SpeechCoder":
        """What makes codes of the tokenizer saved in `folder`, in eval mode. Raises `CheckpointError` where the folder is not
        whole."""
        config = saved_config(folder)
        coder = SpeechCoder(config, config.encoder.build(config))
        file = Path(folder) / "model.safetensors"
        try:
            with safe_open(file, "pt") as weights:
                held = set(weights.keys())  # what is missing is told by name, or filled in, as the modules are loaded
                coder.load_state_dict({name: weights.get_tensor(name) for name in coder.state_dict() if name in held})
        except (RuntimeError, SafetensorError) as problem:
            raise CheckpointError(f"{file} does not fit config.json ({problem})") from None
        return coder.eval()

    def _quantized(self, waveforms: Sequence[np.ndarray], part: Callable[[Quantized], torch.Tensor]) -> list[np.ndarray]:
        """What `part` takes of the quantiser's output for each waveform: [vectors, ...]."""
        pieces, owners, cuts = [], [], []
        for number, samples in enumerate(waveforms):
            samples = checked(samples, f"waveform {number}")
            for window in windows(len(samples), self.config.samples_per_code, self.config.window, self.encoder.context):
                pieces.append(samples[window.start : window.end])
                owners.append(number)
                cuts.append(window)
        found = self._batched(pieces, [code_count(len(piece), self.config) for piece in pieces], partial(self._encoded, part))
        return joined([wanted(rows, window) for rows, window in zip(found, cuts, strict=True)], owners, len(waveforms))

    def _codes_of(self, pieces: list[np.ndarray]) -> list[np.ndarray]:
        lengths = [code_count(len(piece), self.config) for piece in pieces]
        return self._batched(pieces, lengths, partial(self._encoded, lambda found: found.codes))

    def _encoded(self, part: Callable, batch: list[np.ndarray], lengths: torch.Tensor) -> list[np.ndarray]:
        rows = nn.utils.rnn.pad_sequence([torch.from_numpy(samples) for samples in batch], batch_first=True)
        mel = self._features(rows.to(lengths.device), lengths)
        found = part(self.encoder.quantize(self.encoder.states(mel, lengths), lengths)).cpu()
        return [row[:length].numpy() for row, length in zip(found, lengths.tolist(), strict=True)]

    def _features(self, rows: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """What the encoder takes of waveforms [B, samples] of `lengths` codes."""
        return self.config.encoder.features(rows, self.config.mels, int(lengths.max()) * self.config.frames_per_code)

    def _batched(self, items: list, lengths: list[int], function: Callable[[list, torch.Tensor], list]) -> list:
        """`function` of the items in batches of like length, in eval mode; results in the items' order."""
        device = next(self.encoder.parameters()).device
        results: list = [None] * len(items)
        order = sorted(range(len(items)), key=lambda i: lengths[i])
        with evaluating(self):
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                sizes = torch.tensor([lengths[i] for i in chosen], device=device)
                found = function([items[i] for i in chosen], sizes)
                for i, result in zip(chosen, found, strict=True):
                    results[i] = result
        return results


def saved_config(folder: Path) -> SpeechConfig:
    """The configuration of the tokenizer saved in `folder`. Raises `CheckpointError` where the folder is not whole."""
    check_folder(Path(folder), FORMAT)
    file = Path(folder) / "config.json"
    return parse_config(read_json(file, CheckpointError), SpeechConfig, str(file))


def joined(parts: list[np.ndarray], owners: list[int], count: int) -> list[np.ndarray]:
    """The `parts` of each of `count` owners, one after the other."""
    grouped: list[list[np.ndarray]] = [[] for _ in range(count)]
    for owner, part in zip(owners, parts, strict=True):
        grouped[owner].append(part)
    return [np.concatenate(group) for group in grouped]
