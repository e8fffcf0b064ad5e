"""GLM-4-Voice's released decoder: codes of its tokenizer to sound of 22.05 kHz, piece by piece.

After THUDM/GLM-4-Voice (cosyvoice/flow, flow_inference.py, web_demo.py), whose decoder is CosyVoice's (Du et al. 2024,
arXiv:2407.05407) without a speaker: that embedding is zero. Four things are otherwise than there. Dropout is off (there, the
encoder is left in training mode). The frame that the vocoder hears again is no part of the next prompt, where it would move all
that follows by a frame. A stream that ends with a piece gives its end, too. And what lies more than some 50 s back is forgotten.
"""

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mmpt.errors import CheckpointError
from mmpt.storage import read_json
from mmpt.tokenizers.published._flow_config import DecoderShape, FlowShape, decoder_shape
from mmpt.tokenizers.published._flow_encoder import BlockEncoder, LengthRegulator
from mmpt.tokenizers.published._flow_estimator import Estimator
from mmpt.tokenizers.published._hift import Hift, folded
from mmpt.tokenizers.published._loading import load_tensors, tensors_under

CONFIG = "decoder.json"
PIECES = (25, 50, 100, 150, 200)
"""Codes of the first pieces that sound is made of, the last one that of all that follow: short ones to begin early."""
_STEPS = 10  # of a path
_SEED = 42  # of the noise of each piece
_OVERLAP = 5  # codes at the end of a piece whose frames are made again with the next one, and faded into each other


class FlowDecoder(nn.Module):
    """Two nets under the names of their checkpoints, `flow` and `hift`."""

    def __init__(self, shape: DecoderShape):
        super().__init__()
        self.flow, self.hift = Flow(shape.flow), Hift(shape.hift)
        self.sound_rate = shape.hift.sampling_rate
        self.ratio = Fraction(self.sound_rate, shape.hift.hop) / Fraction(shape.flow.input_frame_rate)
        """Frames of a code."""
        # So many codes have whole frames, and are whole blocks of the encoder: where they are forgotten, the rest stays as it is.
        self.period = math.lcm(self.ratio.denominator, shape.flow.encoder.block_size)
        self.overlap = int(_OVERLAP * self.ratio)

    def frames(self, codes: int) -> int:
        """Mel frames of so many codes."""
        return int(codes * self.ratio)


class Flow(nn.Module):
    """Codes to mels by conditional flow matching."""

    def __init__(self, shape: FlowShape):
        super().__init__()
        mels = shape.output_size
        self.mels, self.guidance = mels, shape.decoder.cfm_params.content.inference_cfg_rate
        self.input_embedding = nn.Embedding(shape.vocab_size, shape.input_size)
        self.spk_embed_affine_layer = nn.Linear(shape.spk_embed_dim, mels)
        self.encoder = BlockEncoder(shape.encoder)
        self.encoder_proj = nn.Linear(shape.encoder.output_size, mels)
        self.length_regulator = LengthRegulator(shape.length_regulator)
        self.decoder = nn.ModuleDict({"estimator": Estimator(shape.decoder.estimator)})

    def forward(self, codes: torch.Tensor, prompt: torch.Tensor, frames: int, draw: torch.Generator) -> torch.Tensor:
        """Mel [mels, frames] of `codes` [n], of which the first frames are known: `prompt` [mels, fewer frames]. `draw` (of the
        CPU) gives the noise that a path begins in."""
        states = self.encoder_proj(self.encoder(self.input_embedding(codes)[None]))
        coarse = self.length_regulator(states.transpose(1, 2), frames)
        voice = self.spk_embed_affine_layer.bias[None, :, None].expand(1, -1, frames)  # of an embedding that is zero
        known = F.pad(prompt, (0, frames - prompt.shape[1]))[None]
        given = torch.cat([coarse, voice, known], dim=1)
        given = torch.cat([given, torch.zeros_like(given)])  # with conditions and without
        x = torch.randn(1, self.mels, frames, generator=draw).to(coarse.device)
        times = 1 - torch.cos(torch.linspace(0, 1, _STEPS + 1) * 0.5 * math.pi)
        for start, end in pairwise(times.tolist()):
            led, free = self.decoder["estimator"](torch.cat([x.expand(2, -1, -1), given], dim=1), start).chunk(2)
            x = x + (end - start) * ((1 + self.guidance) * led - self.guidance * free)
        return x[0]


class GoingOn:
    """Sound of codes as they come, the same in whatever portions: `hop` samples for each of the frames of all codes."""

    def __init__(self, decoder: FlowDecoder, device: torch.device) -> None:
        self._decoder, self._device = decoder, device
        self._waiting = np.zeros(0, dtype=np.int64)
        self._pieces = 0  # that were made
        self._codes = torch.zeros(0, dtype=torch.int64, device=device)  # of them, less those that are forgotten
        self._mel = torch.zeros(decoder.flow.mels, 0, device=device)  # of them, less the overlap
        self._tail = torch.zeros(decoder.flow.mels, 0, device=device)  # that overlap
        self._source = torch.zeros(0, device=device)  # of the last frame before it, which is heard again
        self._window = torch.from_numpy(np.hamming(2 * decoder.overlap)).float().to(device)

    def __call__(self, frames: np.ndarray, last: bool) -> np.ndarray:
        """Samples float32 [n] that have become final with codes [n, 1]; told with the last that they are."""
        self._waiting = np.concatenate([self._waiting, frames.reshape(-1)])
        found = [np.zeros(0, dtype=np.float32)]
        with torch.inference_mode():
            # A piece waits for a code behind it, since the last one is made otherwise.
            while len(self._waiting) > (size := PIECES[min(self._pieces, len(PIECES) - 1)]):
                found.append(self._piece(size, last=False))
            if last and len(self._waiting):
                found.append(self._piece(len(self._waiting), last=True))
        return np.concatenate(found)

    def _piece(self, size: int, last: bool) -> np.ndarray:
        decoder, draw = self._decoder, torch.Generator().manual_seed(_SEED)
        new, self._waiting = self._waiting[:size], self._waiting[size:]
        self._pieces += 1
        self._codes = torch.cat([self._codes, torch.from_numpy(new).to(self._device)])
        before = self._mel.shape[1]
        mel = decoder.flow(self._codes, self._mel, decoder.frames(len(self._codes)), draw)[:, before:]
        mel[:, : self._tail.shape[1]] = self._faded(mel)
        heard_again = min(before, 1)
        end = mel.shape[1] if last else mel.shape[1] - decoder.overlap
        self._mel, self._tail = torch.cat([self._mel, mel[:, :end]], dim=1), mel[:, end:]
        samples, source = decoder.hift(self._mel[:, before - heard_again :], self._source, draw)
        hop = decoder.hift.shape.hop
        self._source = source[-hop:]
        self._forget()
        return (samples if last else samples[:-hop]).cpu().numpy()

    def _faded(self, mel: torch.Tensor) -> torch.Tensor:
        """The first frames of a piece, out of what the one before made of them."""
        count = self._tail.shape[1]
        return mel[:, :count] * self._window[:count] + self._tail * self._window[len(self._window) - count :]

    def _forget(self) -> None:
        period, frames = self._decoder.period, self._decoder.frames(self._decoder.period)
        while len(self._codes) >= 2 * period:
            self._codes, self._mel = self._codes[period:], self._mel[:, frames:]


def flow_decoder(folder: Path, codes: int, released: Path | None = None) -> FlowDecoder:
    """That in `folder`, in eval mode; messages name the files of `released`, where they were read from those. Raises
    `CheckpointError` where its weights are not whole, or are those of something else, or where it has not so many codes."""
    where = released / "config.yaml" if released else folder / CONFIG
    shape = decoder_shape(read_json(folder / CONFIG, CheckpointError), str(where))
    if shape.flow.vocab_size != codes:
        raise CheckpointError(f"{where}: flow.vocab_size is {shape.flow.vocab_size}, the tokenizer has {codes} codes")
    decoder = FlowDecoder(shape)
    for part in ("flow", "hift"):
        path = released / f"{part}.pt" if released else folder / f"{part}.safetensors"
        module, tensors = getattr(decoder, part), folded(tensors_under(folder, (f"{part}.",)))
        load_tensors(module, tensors, path)
        if unknown := sorted(set(tensors) - set(module.state_dict())):
            raise CheckpointError(f"{path}: {len(unknown)} weights are of something else: {', '.join(unknown[:3])}, …")
    return decoder.eval()
