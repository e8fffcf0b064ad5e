"""The modules of `Whisper`: a Whisper checkpoint as recogniser, a quantiser in the middle of its encoder.

GLM-4-Voice's design (Zeng et al. 2024, section 3.1; the released configuration of its tokenizer): pooling and quantiser after a
layer of Whisper's encoder, a second position table behind it, the remaining layers and Whisper's own text decoder. What lies
behind a clip is the silence that the settings ask for, which Whisper has learned to hear, and is masked beyond it: codes do not
depend on what else is in a batch.
"""

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn import functional as F
from transformers import WhisperConfig as HuggingFaceConfig
from transformers import WhisperForConditionalGeneration
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mmpt.errors import ConfigError, DataError
from mmpt.layers.masks import length_mask, local_mask
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.constants import HOP, STRIDE
from mmpt.tokenizers.speech.encoders._restorer import FromAround, Restorer
from mmpt.tokenizers.speech.encoders._whisper_rows import (
    before_silence,
    explained_by_position,
    filled,
    first_of,
    principal_components,
)
from mmpt.tokenizers.speech.encoders.whisper import Whisper
from mmpt.tokenizers.speech.features import SILENCE, WINDOW
from mmpt.tokenizers.speech.recognizer import EncoderModule
from mmpt.tokenizers.speech.windows import Context
from mmpt.tokenizers.terms import Term, distance

STEM = 3  # the kernel of both convolutions
WHISPER_SILENCE = -4.0
"""A log-mel value at the floor of Whisper's features, a power of 1e-10."""


def whisper_model(shape: Whisper) -> WhisperForConditionalGeneration:
    """The whole model that `shape.architecture` describes, with random weights."""
    return WhisperForConditionalGeneration(_architecture(shape))


def whisper_up_to_the_cut(shape: Whisper) -> WhisperEncoder:
    """Of the same model, what codes are made by: the encoder's layers up to the quantiser."""
    known = _architecture(shape)
    known.encoder_layers = shape.layer
    return WhisperEncoder(known)


class WhisperSpeechEncoder(EncoderModule):
    """Whisper's encoder, or of it the layers up to the quantiser."""

    silence: torch.Tensor | None

    def __init__(self, config: SpeechConfig, shape: Whisper, whisper: WhisperEncoder):
        super().__init__()
        self.config, self.shape, self.whisper = config, shape, whisper
        dim, inner = whisper.config.d_model, config.quantizer.dim
        self.stem_padding = (STEM - 1, 0) if self.shape.block else (STEM // 2, STEM // 2)
        self.to_code = nn.Identity() if inner == dim else nn.Linear(dim, inner)
        self.quantizer = config.quantizer.build()
        alone = nn.Identity() if inner == dim else nn.Linear(inner, dim)
        self.from_code = FromAround(inner, dim, self.shape.around) if self.shape.around else alone
        heads = whisper.config.encoder_attention_heads
        self.restorer = Restorer(dim, heads, shape.restore) if shape.restore else None
        self.code_positions = nn.Embedding(math.ceil(whisper.config.max_source_positions / config.pool), dim)
        # At each place of a window, positions and all.
        self.register_buffer("silence", torch.zeros(config.window, dim) if self.shape.silence_read else None)

    @property
    def context(self) -> Context:
        # Windows of `config.window` codes that overlap: positions, and so codes, depend on where a window begins.
        overlap, block = self.shape.overlap, self.shape.block
        if block is None:
            grid = self.config.window - 2 * overlap
            return Context(overlap, overlap * self.config.samples_per_code, grid, grid)
        return Context(overlap, max(0, WINDOW // 2 - STRIDE * HOP), block, self.config.window - overlap)

    def hear(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        hidden, _ = self._hear(mel, lengths, self.shape)
        return hidden[:, : mel.shape[1] // self.config.frames_per_code]

    def hear_whole(self, mel: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """With all the silence that the checkpoint knows; behind each state of `hear` stands, [B, C, 2 · dim], what its last
        layer gives in its place."""
        whole = self.shape.model_copy(update={"silence": None})
        x, heard = self._stem(mel, lengths, whole)
        at_cut = self._layers(x, heard, self.whisper.layers[: self.shape.layer])
        final = self._layers(at_cut, heard, self.whisper.layers[self.shape.layer :])
        size = mel.shape[1] // self.config.frames_per_code
        hidden = self._pooled_at_cut(at_cut)[:, :size] if self.shape.silence is None else self.hear(mel, lengths)
        pooled = self.whisper.layer_norm(self._pooled(final))[:, :size]
        return torch.cat([hidden, pooled], dim=-1), self.whisper.layer_norm(final), heard.sum(dim=1)

    def before_code(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        left = self._before_quantiser(hidden)
        if self.training and self.shape.noise:
            left = left + self.shape.noise * left.std(dim=(0, 1)) * torch.randn_like(left)
        return self.to_code(left)

    def states_beyond(self, mel: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, heard = self._hear(mel, lengths, self.shape)
        return self.before_code(hidden, heard), heard

    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        states = states.to(self.code_positions.weight.dtype)  # a codebook stays float32
        alone = self.from_code(states, lengths) if isinstance(self.from_code, FromAround) else self.from_code(states)
        if self.restorer is not None:
            alone = self.restorer(alone, lengths)
        x = alone + self.code_positions.weight[: states.shape[1]].to(alone.dtype)
        if self.silence is not None:
            x, lengths = before_silence(x, lengths, self.silence.to(x.dtype)), torch.full_like(lengths, len(self.silence))
        if self.shape.whole:
            return alone, x, lengths
        seen = self._seen(length_mask(lengths, x.shape[1]), self.shape.block)
        for layer in self.whisper.layers[self.shape.layer :]:
            x = first_of(layer(x, attention_mask=seen))
        return alone, self.whisper.layer_norm(x), lengths

    def distances(
        self, hidden: torch.Tensor, alone: torch.Tensor, context: torch.Tensor, lengths: torch.Tensor
    ) -> dict[str, Term]:
        wanted = self.unquantised(hidden)
        if not wanted.shape[-1]:
            return {}
        valid = length_mask(lengths, wanted.shape[1])
        terms = {"distance": distance(context[:, : wanted.shape[1]][valid], wanted[valid])}
        if self.restorer is not None:
            found, before = alone[valid], self._before_quantiser(hidden)[valid]
            terms["restored"] = distance(self.restorer.scaled(found), self.restorer.scaled(before))
        return terms

    def unquantised(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the text decoder would read [B, C, dim] if no code stood between, of `hear_whole`; [B, C, 0] of `hear`."""
        return hidden[..., self.whisper.config.d_model :].to(self.code_positions.weight.dtype)

    def begin(self, heard: list[torch.Tensor]) -> None:
        """What positions explain of the states is left out before the quantiser and put back behind it, so that no code says
        where it stands; the projections to and from it begin as principal components of the rest, the codebook in their space.

        Each value counts by the root of its deviation: of Whisper base's after its fourth layer one alone has 0.78 of the
        variance."""
        rows = [self._at_cut(hidden) for hidden in heard]
        with torch.no_grad():
            table = self.code_positions.weight
            table.copy_(explained_by_position(rows, self._pooled_positions()))
            left = torch.cat([row - table[: len(row)] for row in rows])
            if isinstance(self.to_code, nn.Linear):
                scale = left.std(dim=0).clamp_min(1e-6).rsqrt()
                mean, axes = principal_components(left * scale, self.to_code.out_features)
                self.to_code.weight.copy_(axes.t() * scale)
                self.to_code.bias.copy_(-mean @ axes)
                if isinstance(self.from_code, nn.Linear):
                    self.from_code.weight.copy_(axes / scale[:, None])
                    self.from_code.bias.copy_(mean / scale)
            if self.restorer is not None:
                self.restorer.begin(left)
            self.quantizer.begin(self.to_code(left))
            if isinstance(self.from_code, FromAround):
                each = left.split([len(row) for row in rows])
                training = self.quantizer.training
                self.quantizer.eval()  # it is asked, and does not learn
                self.from_code.begin((self.quantizer(self.to_code(row)).states, row) for row in each)
                self.quantizer.train(training)

    def hear_silence(self, mels: Iterable[torch.Tensor]) -> None:
        if self.silence is None:
            return
        total, count = torch.zeros_like(self.silence), self.silence.new_zeros(len(self.silence), 1)
        whole = self.shape.model_copy(update={"silence": None})
        with torch.no_grad():
            for mel in mels:
                codes = len(mel) // self.config.frames_per_code
                lengths = torch.tensor([codes], device=total.device)
                hidden, _ = self._hear(mel[None].to(total.device), lengths, whole)
                # The first state behind a clip may still hold some of its last frames' context.
                total[codes + 1 :] += hidden[0, codes + 1 : len(total)]
                count[codes + 1 :] += 1
        if not count.any():
            raise DataError(f"silence_read: no clip is shorter than the window of {self.config.window} codes, so none is heard")
        self.silence.copy_(filled(total / count.clamp_min(1), count[:, 0] > 0))

    def _at_cut(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden[..., : self.whisper.config.d_model].to(self.code_positions.weight.dtype)

    def _before_quantiser(self, hidden: torch.Tensor) -> torch.Tensor:
        """[B, C, dim], without what positions say of it."""
        return self._at_cut(hidden) - self._positions(hidden.shape[1])

    def _positions(self, count: int) -> torch.Tensor | float:
        """What is left out of the first `count` states before the quantiser: GLM-4-Voice leaves nothing out."""
        return self.code_positions.weight[:count] if self.shape.fixed else 0.0

    def _pooled_positions(self) -> torch.Tensor:
        """The first table at the rate of the codes, [positions, dim]."""
        table, size = self.whisper.embed_positions.weight, len(self.code_positions.weight) * self.config.pool
        return F.pad(table, (0, 0, 0, size - len(table))).unflatten(0, (-1, self.config.pool)).mean(dim=1)

    def _hear(self, mel: torch.Tensor, lengths: torch.Tensor, shape: Whisper) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled states [B, C or more, dim], and how many of each are heard, the silence behind a clip with them."""
        x, heard = self._stem(mel, lengths, shape)
        x = self._layers(x, heard, self.whisper.layers[: shape.layer])
        return self._pooled_at_cut(x), -(-heard.sum(dim=1) // self.config.pool)

    def _pooled_at_cut(self, x: torch.Tensor) -> torch.Tensor:
        # The norm before the pooling would weigh all frames alike: it doubles the word error rate at 12.5 Hz.
        return self.whisper.layer_norm(self._pooled(x)) if self.shape.whole else self._pooled(x)

    def _stem(self, mel: torch.Tensor, lengths: torch.Tensor, shape: Whisper) -> tuple[torch.Tensor, torch.Tensor]:
        """What the first layer takes, [B, frames of 50 Hz, dim], and which frames are heard, [B, frames]."""
        whisper = self.whisper
        mask, x = self._frames(mel, lengths, shape)
        x = x.transpose(1, 2).to(whisper.conv1.weight.dtype)
        x = F.gelu(self._convolve(whisper.conv1, x)) * mask[:, None]
        x = F.gelu(self._convolve(whisper.conv2, x)).transpose(1, 2)
        return x + whisper.embed_positions.weight[: x.shape[1]], mask[:, ::STRIDE]

    def _layers(self, x: torch.Tensor, heard: torch.Tensor, layers: Iterable[nn.Module]) -> torch.Tensor:
        """States of 50 Hz behind `layers`."""
        seen = self._seen(heard, None if self.shape.block is None else self.shape.block * self.config.pool)
        for layer in layers:
            x = first_of(layer(x, attention_mask=seen))
        return x

    def _pooled(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unflatten(1, (-1, self.config.pool))
        return x.mean(dim=2) if self.shape.pooling == "avg" else x.amax(dim=2)

    def _frames(self, mel: torch.Tensor, lengths: torch.Tensor, shape: Whisper) -> tuple[torch.Tensor, torch.Tensor]:
        """(which frames are heard [B, T], Whisper's features of them [B, T, mels], zero beyond): (log10 p + 4) ÷ 4, hence
        (mel + 1) ÷ 2, and no less than 2 below the loudest of a clip, which silence is set to."""
        config = self.config
        spoken = length_mask(lengths * config.frames_per_code, mel.shape[1])[..., None]
        if shape.block is not None:  # what is final before the end cannot know the loudest frame
            return spoken[..., 0], (mel.clamp_min(SILENCE) + 1) / 2 * spoken
        size = int(shape.frames_heard(torch.tensor(mel.shape[1] // config.frames_per_code), config.pool, config.window))
        size = -(-size // config.pool) * config.pool * STRIDE  # whole codes
        heard = length_mask(STRIDE * shape.frames_heard(lengths, config.pool, config.window), size)
        mel = mel.masked_fill(~spoken, WHISPER_SILENCE)
        floor = mel.amax(dim=(1, 2), keepdim=True) - 4
        mel = F.pad(mel, (0, 0, 0, size - mel.shape[1]), value=WHISPER_SILENCE)
        return heard, (mel.maximum(floor) + 1) / 2 * heard[..., None]

    def _convolve(self, layer: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
        return F.conv1d(F.pad(x, self.stem_padding), layer.weight, layer.bias, layer.stride)

    def _seen(self, mask: torch.Tensor, block: int | None) -> torch.Tensor:
        return mask[:, None, None] if block is None else local_mask(mask, mask.shape[1], block)


def _architecture(shape: Whisper) -> HuggingFaceConfig:
    if not shape.architecture:
        raise ConfigError("encoder.architecture is empty: it is filled in from the checkpoint where training starts")
    known = HuggingFaceConfig(**shape.architecture)
    known._attn_implementation = "sdpa"  # takes masks of true and false
    return known
