"""Speech ↔ codes at 12.5 Hz: recognition-supervised, so a code says what is spoken rather than by whom."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from mmpt.config import parse_config
from mmpt.errors import CheckpointError, DataError
from mmpt.storage import check_folder, published_folder, read_json, write_json
from mmpt.tokenizers.speech.batches import SpeechBatch, SpeechExample, code_count
from mmpt.tokenizers.speech.config import SAMPLE_RATE, SpeechConfig
from mmpt.tokenizers.speech.encoder import SpeechEncoder
from mmpt.tokenizers.speech.features import log_mel, waveform
from mmpt.tokenizers.speech.mel_decoder import MelDecoder, voice_statistics
from mmpt.tokenizers.speech.text_decoder import TextDecoder
from mmpt.tokenizers.text import decode_text, encode_text, load_text_tokenizer

FORMAT = "mmpt-speech-tokenizer/1"
_BATCH = 32


class SpeechTokenizer(nn.Module):
    """Encoder, codebook and both decoders. In `fit`, a training batch is a `SpeechBatch`."""

    sample_rate = SAMPLE_RATE

    def __init__(self, config: SpeechConfig, text: PreTrainedTokenizerBase):
        super().__init__()
        self.config = config
        self.text = text
        self.encoder = SpeechEncoder(config)
        self.reader = TextDecoder(len(text), config.dim, config.heads, config.text_layers, config.dropout)
        self.speaker = MelDecoder(config)
        self.register_buffer("default_voice", torch.zeros(2 * config.mels))

    @property
    def codes(self) -> int:
        """Size of the codebook."""
        return self.config.quantizer.codes

    @property
    def rate(self) -> float:
        """Codes for each second."""
        return SAMPLE_RATE / self.config.samples_per_code

    def encode(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Codes of each waveform (float32 [samples], 16 kHz): int64 [ceil(samples ÷ samples_per_code)], at least one.

        Audio longer than the window is cut into windows. Raises `DataError` naming a waveform that is no sound.
        """
        window = self.config.window * self.config.samples_per_code
        pieces, owners = [], []
        for number, samples in enumerate(waveforms):
            samples = _checked(samples, number)
            for start in range(0, len(samples), window):
                pieces.append(samples[start : start + window])
                owners.append(number)
        codes = self._batched(pieces, [code_count(len(piece), self.config) for piece in pieces], self._encode)
        return _joined(codes, owners, len(waveforms))

    def decode(self, codes: Sequence[np.ndarray], voice: np.ndarray | None = None) -> list[np.ndarray]:
        """A waveform (float32 [codes · samples_per_code], 16 kHz, −1 … 1) of each code sequence, in `voice` or the default one.

        Raises `DataError` naming a sequence that is empty or holds something other than codes.
        """
        pieces, owners = self._pieces(codes)
        if voice is None:
            vector = self.speaker.voice(self.default_voice).detach()
        else:
            vector = torch.from_numpy(np.array(voice, dtype=np.float32))
            if vector.shape != (self.config.voice,) or not vector.isfinite().all():
                raise DataError(f"voice: expected {self.config.voice} finite numbers, found shape {tuple(vector.shape)}")

        def speak(batch: list[np.ndarray], lengths: torch.Tensor) -> list[np.ndarray]:
            mels = self.speaker(self._code_states(batch), lengths, vector.to(lengths.device).expand(len(batch), -1)).cpu()
            return [mel[: length * self.config.frames_per_code].numpy() for mel, length in zip(mels, lengths, strict=True)]

        mels = _joined(self._batched(pieces, [len(piece) for piece in pieces], speak), owners, len(codes))
        return [waveform(torch.from_numpy(mel)).numpy() for mel in mels]

    def transcribe(self, codes: Sequence[np.ndarray]) -> list[str]:
        """The text of each code sequence, as the tokenizer's own text decoder reads it."""
        pieces, owners = self._pieces(codes)

        def read(batch: list[np.ndarray], lengths: torch.Tensor) -> list[list[int]]:
            alone, context = self.encoder.read(self._code_states(batch), lengths)
            return self.reader.read(context, alone, lengths)

        texts = self._batched(pieces, [len(piece) for piece in pieces], read)
        parts: list[list[str]] = [[] for _ in codes]
        for owner, ids in zip(owners, texts, strict=True):
            parts[owner].append(decode_text(self.text, ids))
        return [" ".join(part for part in each if part) for each in parts]

    def voice(self, samples: np.ndarray) -> np.ndarray:
        """The voice of a waveform (float32, 16 kHz): float32 [config.voice], to be given to `decode`."""
        with torch.inference_mode():
            statistics = self._statistics(_checked(samples, 0)).to(self.default_voice.device)
            return self.speaker.voice(statistics)[0].cpu().numpy()

    def choose_default_voice(self, examples: Sequence[SpeechExample]) -> None:
        """Make the voice of the medoid of the first 1000 `examples` the default."""
        statistics = torch.cat([self._statistics(example.samples) for example in examples[:1000]])
        self.default_voice.copy_(statistics[torch.cdist(statistics, statistics).sum(dim=0).argmin()])

    def _statistics(self, samples: np.ndarray) -> torch.Tensor:
        """What a voice is made of, [1, 2 · mels]."""
        frames = code_count(len(samples), self.config) * self.config.frames_per_code
        return voice_statistics(log_mel(torch.from_numpy(samples), self.config.mels, frames)[None], torch.tensor([frames]))

    def training_step(self, batch: SpeechBatch, progress: float) -> tuple[torch.Tensor, dict[str, float]]:
        """Everything together first; from `config.mel_from` on the encoder rests and the mel decoder alone learns."""
        batch = batch.to(self.default_voice.device)
        if progress >= self.config.mel_from:
            self.encoder.eval()
            with torch.no_grad():
                states = self.encoder.quantize(self.encoder.states(batch.spoken, batch.lengths), batch.lengths).states
            self.encoder.train(self.training)
            loss = self.speaker.loss(states, batch.lengths, batch.spoken)
            return loss, {"mel": float(loss.detach())}
        states = self.encoder.states(batch.heard, batch.lengths)
        commitment = states.new_zeros(())
        if progress >= self.config.quantize_from:
            states, _, commitment = self.encoder.quantize(states, batch.lengths)
        texts = [encode_text(self.text, text) for text in batch.texts]
        alone, context = self.encoder.read(states, batch.lengths)
        reading, ctc = self.reader.losses(texts, context, alone, batch.lengths)
        mel = self.speaker.loss(states, batch.lengths, batch.spoken)
        loss = reading + self.config.ctc_weight * ctc + self.config.mel_weight * mel + commitment
        figures = {"reading": reading, "ctc": ctc, "mel": mel, "commitment": commitment}
        return loss, {name: float(value.detach()) for name, value in figures.items()}

    def save(self, folder: Path) -> None:
        """Write config, weights and text tokenizer to `folder`, atomically."""
        with published_folder(folder, {"format": FORMAT}) as temporary:
            write_json(temporary / "config.json", self.config.model_dump(mode="json"))
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, temporary / "model.safetensors")
            self.text.save_pretrained(temporary / "text")

    @classmethod
    def load(cls, folder: Path) -> "SpeechTokenizer":
        """The tokenizer saved in `folder`, in eval mode. Raises `CheckpointError` where the folder is not whole."""
        folder = Path(folder)
        check_folder(folder, FORMAT)
        config = parse_config(read_json(folder / "config.json", CheckpointError), SpeechConfig, f"{folder}/config.json")
        tokenizer = cls(config, load_text_tokenizer(folder / "text"))
        try:
            tokenizer.load_state_dict(load_file(folder / "model.safetensors"))
        except (RuntimeError, SafetensorError) as problem:
            raise CheckpointError(f"{folder}/model.safetensors does not fit config.json ({problem})") from None
        return tokenizer.eval()

    def _encode(self, batch: list[np.ndarray], lengths: torch.Tensor) -> list[np.ndarray]:
        mels = [
            log_mel(torch.from_numpy(samples), self.config.mels, int(length) * self.config.frames_per_code)
            for samples, length in zip(batch, lengths, strict=True)
        ]
        mel = nn.utils.rnn.pad_sequence(mels, batch_first=True).to(lengths.device)
        codes = self.encoder.quantize(self.encoder.states(mel, lengths), lengths).codes.cpu()
        return [row[:length].numpy() for row, length in zip(codes, lengths, strict=True)]

    def _code_states(self, codes: list[np.ndarray]) -> torch.Tensor:
        """Quantised vectors [B, C, quantizer.dim] of code sequences, filled up to the longest."""
        rows = nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in codes], batch_first=True)
        return self.encoder.quantizer.decode(rows.to(self.default_voice.device))

    def _pieces(self, codes: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[int]]:
        pieces, owners = [], []
        for number, sequence in enumerate(codes):
            sequence = np.asarray(sequence)
            if sequence.ndim != 1 or not len(sequence) or not np.issubdtype(sequence.dtype, np.integer):
                raise DataError(f"sequence {number}: expected integer codes in one dimension, at least one")
            if sequence.min() < 0 or sequence.max() >= self.codes:
                raise DataError(f"sequence {number}: codes {sequence.min()} … {sequence.max()}, expected 0 … {self.codes - 1}")
            for start in range(0, len(sequence), self.config.window):
                pieces.append(sequence[start : start + self.config.window].astype(np.int64))
                owners.append(number)
        return pieces, owners

    def _batched(self, items: list, lengths: list[int], function: Callable[[list, torch.Tensor], list]) -> list:
        """`function` of the items in batches of like length, in eval mode; results in the items' order."""
        training = self.training
        self.eval()
        results: list = [None] * len(items)
        order = sorted(range(len(items)), key=lambda i: lengths[i])
        with torch.inference_mode():
            for start in range(0, len(order), _BATCH):
                chosen = order[start : start + _BATCH]
                found = function(
                    [items[i] for i in chosen], torch.tensor([lengths[i] for i in chosen], device=self.default_voice.device)
                )
                for i, result in zip(chosen, found, strict=True):
                    results[i] = result
        self.train(training)
        return results


def _checked(samples: np.ndarray, number: int) -> np.ndarray:
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.ndim != 1:
        found = f"{samples.dtype} {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise DataError(f"waveform {number}: expected a float32 array in one dimension, found {found}")
    if not len(samples):
        raise DataError(f"waveform {number}: not a single sample")
    if not np.isfinite(samples).all():
        raise DataError(f"waveform {number}: holds NaN or infinity")
    return samples


def _joined(parts: list[np.ndarray], owners: list[int], count: int) -> list[np.ndarray]:
    grouped: list[list[np.ndarray]] = [[] for _ in range(count)]
    for owner, part in zip(owners, parts, strict=True):
        grouped[owner].append(part)
    return [np.concatenate(group) for group in grouped]
