"""The modules of `Whisper`: a Whisper checkpoint as recogniser, a quantiser in the middle of its encoder.

GLM-4-Voice's design (Zeng et al. 2024, section 3.1; the released configuration of its tokenizer): pooling and quantiser after a
layer of Whisper's encoder, a second position table behind it, the remaining layers and Whisper's own text decoder. Padding is
masked everywhere, which Whisper's own code leaves out, so codes do not depend on what else is in a batch.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, WhisperForConditionalGeneration
from transformers import WhisperConfig as HuggingFaceConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mmpt.errors import ConfigError, DataError
from mmpt.layers.masks import length_mask, local_mask
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.constants import HOP, STRIDE
from mmpt.tokenizers.speech.encoders.whisper import Whisper
from mmpt.tokenizers.speech.features import WINDOW
from mmpt.tokenizers.speech.recognizer import EncoderModule, TextDecoder
from mmpt.tokenizers.speech.windows import Context
from mmpt.tokenizers.terms import Term

STEM = 3  # the kernel of both convolutions


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

    def __init__(self, config: SpeechConfig, shape: Whisper, whisper: WhisperEncoder):
        super().__init__()
        self.config, self.shape, self.whisper = config, shape, whisper
        dim, inner = whisper.config.d_model, config.quantizer.dim
        self.stem_padding = (STEM - 1, 0) if self.shape.block else (STEM // 2, STEM // 2)
        self.to_code = nn.Identity() if inner == dim else nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, inner))
        self.quantizer = config.quantizer.build()
        self.from_code = nn.Identity() if inner == dim else nn.Sequential(nn.Linear(inner, dim), nn.LayerNorm(dim))
        self.code_positions = nn.Embedding(math.ceil(whisper.config.max_source_positions / config.pool), dim)

    @property
    def context(self) -> Context:
        # Windows of `config.window` codes that overlap: positions, and so codes, depend on where a window begins.
        overlap, block = self.shape.overlap, self.shape.block
        if block is None:
            grid = self.config.window - 2 * overlap
            return Context(overlap, overlap * self.config.samples_per_code, grid, grid)
        return Context(overlap, max(0, WINDOW // 2 - STRIDE * HOP), block, self.config.window - overlap)

    def states(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        # Our log-mel is (log10 p + 2) ÷ 2 with a fixed floor; Whisper's is (log10 p + 4) ÷ 4, hence (mel + 1) ÷ 2, with a floor
        # that follows the loudest frame of a clip.
        whisper, pool = self.whisper, self.config.pool
        frames = length_mask(lengths * self.config.frames_per_code, mel.shape[1])
        mask = frames[:, ::STRIDE]
        x = ((mel + 1) / 2 * frames[..., None]).transpose(1, 2).to(whisper.conv1.weight.dtype)
        x = F.gelu(self._convolve(whisper.conv1, x)) * frames[:, None]
        x = F.gelu(self._convolve(whisper.conv2, x)).transpose(1, 2)
        x = x + whisper.embed_positions.weight[: x.shape[1]]
        seen = self._seen(mask, None if self.shape.block is None else self.shape.block * pool)
        for layer in whisper.layers[: self.shape.layer]:
            x = _hidden(layer(x, attention_mask=seen))
        x = x.unflatten(1, (-1, pool))
        return self.to_code(x.mean(dim=2) if self.shape.pooling == "avg" else x.amax(dim=2))

    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alone = self.from_code(states.to(self.code_positions.weight.dtype))  # a codebook stays float32
        x = alone + self.code_positions.weight[: states.shape[1]].to(alone.dtype)
        seen = self._seen(length_mask(lengths, x.shape[1]), self.shape.block)
        for layer in self.whisper.layers[self.shape.layer :]:
            x = _hidden(layer(x, attention_mask=seen))
        return alone, self.whisper.layer_norm(x)

    def _convolve(self, layer: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
        return F.conv1d(F.pad(x, self.stem_padding), layer.weight, layer.bias, layer.stride)

    def _seen(self, mask: torch.Tensor, block: int | None) -> torch.Tensor:
        return local_mask(mask, mask.shape[1], block)


class WhisperReader(TextDecoder):
    """Whisper's text decoder, with the padding of what it reads masked.

    `head`: the table of the logits, where the checkpoint has one of its own; None where, as in OpenAI's, the token table is it.
    """

    def __init__(self, shape: Whisper, model: WhisperForConditionalGeneration):
        super().__init__()
        self.decoder = model.model.decoder
        known: Any = model.config  # what transformers says of its fields is wider than what a checkpoint holds
        self.head: nn.Linear | None = None if known.tie_word_embeddings else model.proj_out
        self.prompt = [int(token) for token in shape.prompt]  # ids since `settled`
        self.end = int(known.eos_token_id)
        self.most_tokens = self.decoder.max_target_positions - len(self.prompt)

    def forward(
        self, ids: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor, cache: EncoderDecoderCache | None = None
    ) -> torch.Tensor:
        """Logits of the next token [B, L, vocabulary] after each of `ids` [B, L], given `states` [B, C, dim] of `lengths` [B].

        With `cache`, `ids` go on from those it was given before, and their keys and values are added to it.
        """
        decoder, size = self.decoder, ids.shape[1]
        before = cache.get_seq_length() if cache is not None else 0
        x = decoder.embed_tokens(ids) + decoder.embed_positions.weight[before : before + size]
        past = torch.ones(size, before + size, dtype=torch.bool, device=ids.device).tril(before)[None, None]
        heard = length_mask(lengths, states.shape[1])[:, None, None].expand(-1, 1, size, -1)
        for layer in decoder.layers:
            x = _hidden(
                layer(
                    x,
                    attention_mask=past,
                    encoder_hidden_states=states,
                    encoder_attention_mask=heard,
                    past_key_values=cache,
                    use_cache=cache is not None,
                )
            )
        return F.linear(decoder.layer_norm(x), (self.head or decoder.embed_tokens).weight)

    def losses(
        self, texts: list[list[int]], states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[Term, Term]:
        # `most_tokens` is where the decoder's position table ends. There is no CTC: Whisper has no head for it.
        if max(map(len, texts)) > self.most_tokens:
            raise DataError(f"a transcript of {max(map(len, texts))} tokens, at most {self.most_tokens} are read")
        rows = [[*self.prompt, *text, self.end] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.end] * (longest - len(row)) for row in rows], device=states.device)
        sizes = torch.tensor([len(row) for row in rows], device=states.device)
        logits = self(ids[:, :-1], states, lengths)
        positions = torch.arange(1, longest, device=states.device)
        learned = (positions >= len(self.prompt)) & (positions < sizes[:, None])
        reading = F.cross_entropy(logits[learned].float(), ids[:, 1:][learned], reduction="sum")
        nothing = torch.zeros((), device=states.device)
        return Term(reading, learned.sum().to(reading.dtype)), Term(nothing, nothing)

    def read(self, states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        limits = (2 * lengths + 4).clamp_max(self.most_tokens)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        given = torch.tensor([self.prompt] * len(states), device=states.device)
        running = torch.ones(len(states), dtype=torch.bool, device=states.device)
        rows: list[torch.Tensor] = []
        while running.any():
            following = self(given, states, lengths, cache)[:, -1].argmax(dim=-1)
            running = running & (following != self.end) & (len(rows) < limits)
            given = torch.where(running, following, self.end)[:, None]
            rows.append(given)
        return [[i for i in row if i != self.end] for row in torch.cat(rows, dim=1).tolist()]


def _architecture(shape: Whisper) -> HuggingFaceConfig:
    if not shape.architecture:
        raise ConfigError("encoder.architecture is empty: it is filled in from the checkpoint where training starts")
    known = HuggingFaceConfig(**shape.architecture)
    known._attn_implementation = "sdpa"  # takes masks of true and false
    return known


def _hidden(out: torch.Tensor | tuple) -> torch.Tensor:
    return out[0] if isinstance(out, tuple) else out
