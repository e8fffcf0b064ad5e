"""The training of a decoder alone, on the codes of a tokenizer that stays as it is."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from mmpt.errors import DataError
from mmpt.layers.masks import length_mask
from mmpt.tokenizers.quantized import QuantizerModule
from mmpt.tokenizers.speech.batches import Plan, SpeechBatch, epoch_order
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.decoder import SpeechDecoder
from mmpt.tokenizers.speech.direct import Utterance
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.reference import statistics
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.terms import Term, Trainable

BEGIN_FROM = 2000
"""Utterances, the first, that a new decoder begins from."""


class SpeakingBatch(NamedTuple):
    """`codes` [B, C] or [B, C, depth] int64, of `lengths` [B]; `spoken` [B, C · frames_per_code, mels]."""

    codes: torch.Tensor
    lengths: torch.Tensor
    spoken: torch.Tensor


class SpeakingTraining(Trainable):
    """What `fit` trains: the decoder, on states that the frozen `quantizer` has for codes. In `fit`, a training batch is a
    `SpeakingBatch`."""

    def __init__(self, speaker: SpeechDecoder, quantizer: QuantizerModule):
        super().__init__()
        self.speaker, self.quantizer = speaker, quantizer.requires_grad_(False)

    def begin(self, waveforms: Sequence[np.ndarray], codes: Mapping[int, np.ndarray]) -> None:
        """Let a new decoder begin with what least squares find in the first utterances."""
        direct, device = self.speaker.coarse.direct, next(self.speaker.parameters()).device
        if direct is None or direct.map.weight.any():
            return
        config, chosen = self.speaker.config, list(codes.items())[:BEGIN_FROM]

        def states(row: np.ndarray) -> torch.Tensor:
            return self.quantizer.decode(torch.from_numpy(row).to(device)).float()

        def utterance(number: int, row: np.ndarray) -> Utterance:
            mel = log_mel(torch.from_numpy(waveforms[number]), config.mels, len(row) * config.frames_per_code).to(device)
            return states(row), mel, statistics(mel[None], torch.ones(1, len(mel), dtype=torch.bool, device=device))[0]

        direct.learn((states(row) for _, row in chosen), (utterance(*pair) for pair in chosen))

    def loss(self, batch: SpeakingBatch, progress: float) -> dict[str, Term]:
        device = next(self.speaker.parameters()).device
        codes, lengths, spoken = (part.to(device) for part in batch)
        with torch.no_grad():
            states = self.quantizer.decode(codes)
        return self.speaker.losses(states, lengths, spoken, with_flow=True)


class DecoderTraining(Trainable):
    """The second part of a speech tokenizer's training: encoder and text decoder are frozen, the decoder alone learns to speak
    what the codes say. `fit` trains its parameters that ask for a gradient."""

    def __init__(self, tokenizer: SpeechTokenizer):
        super().__init__()
        self.tokenizer = tokenizer
        for part in (tokenizer.encoder, tokenizer.reader):
            part.requires_grad_(False)

    def loss(self, batch: SpeechBatch, progress: float) -> dict[str, Term]:
        tokenizer = self.tokenizer
        batch = batch.to(tokenizer.default_voice.device)
        tokenizer.encoder.eval()
        with torch.no_grad():
            hidden = tokenizer.encoder.hear(batch.spoken, batch.lengths) if batch.hidden is None else batch.hidden
            found = tokenizer.encoder.quantize(tokenizer.encoder.before_code(hidden, batch.lengths), batch.lengths)
        return tokenizer.speaker.losses(found.states, batch.lengths, batch.spoken, with_flow=True)


def speaking_batches(
    waveforms: Sequence[np.ndarray], codes: Mapping[int, np.ndarray], config: SpeechConfig, crop: int, fit: Plan
) -> Callable[[int, int, int], SpeakingBatch]:
    """(step, rank, ranks) → that rank's share of the batch of the step: a piece of `crop` codes at most, of an utterance each.

    `codes`: by the numbers of `waveforms` (float32 [samples], 16 kHz), those of each that is learned from, [C] or [C, depth].
    Every epoch goes through all of them in a new order, those of like length together. Raises `DataError` without any.
    """
    if not codes:
        raise DataError("no speech to learn to speak from")
    numbers, rows = list(codes), list(codes.values())
    counts = np.minimum([len(row) for row in rows], crop)
    per_epoch = -(-len(counts) // fit.batch_size)

    @lru_cache(maxsize=2)  # batches are made ahead, some of them of the next epoch
    def order(epoch: int) -> np.ndarray:
        return epoch_order(counts, fit.batch_size, per_epoch, fit.seed, epoch)

    def piece(chosen: int, random: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        row, per_code = rows[chosen], config.frames_per_code
        mel = log_mel(torch.from_numpy(waveforms[numbers[chosen]]), config.mels, len(row) * per_code)
        start = int(random.integers(len(row) - counts[chosen] + 1))
        end = start + int(counts[chosen])
        return torch.from_numpy(row[start:end]), mel[start * per_code : end * per_code]

    def batch(step: int, rank: int = 0, ranks: int = 1) -> SpeakingBatch:
        epoch, place = divmod(step, per_epoch)
        share = fit.batch_size // ranks
        own = range(rank * share, (rank + 1) * share)
        chosen = order(epoch)[place].tolist()
        pieces = [piece(chosen[number], np.random.default_rng([fit.seed, 1, step, number])) for number in own]
        cut, mels = ([one[part] for one in pieces] for part in (0, 1))
        lengths = torch.tensor([len(row) for row in cut])
        filled = pad_sequence(cut, batch_first=True)
        if filled.ndim == 3:  # of a residual quantiser: what fills up must be codes of each stage too
            filled = torch.where(length_mask(lengths, filled.shape[1])[..., None], filled, cut[0][0])
        return SpeakingBatch(filled, lengths, pad_sequence(mels, batch_first=True))

    return batch
