"""A Whisper checkpoint as the recogniser of a speech tokenizer, a quantiser in the middle of its encoder.

GLM-4-Voice's design (Zeng et al. 2024, section 3.1; the released configuration of its tokenizer): pooling and quantiser after a
layer of Whisper's encoder, a second position table behind it, the remaining layers and Whisper's own text decoder. Padding is
masked everywhere, which Whisper's own code leaves out, so codes do not depend on what else is in a batch.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, WhisperForConditionalGeneration
from transformers import WhisperConfig as HuggingFaceConfig

from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.quantizers import Quantized, build_quantizer
from mmpt.tokenizers.speech.config import HOP, STRIDE, SpeechConfig
from mmpt.tokenizers.speech.features import WINDOW
from mmpt.tokenizers.speech.layers import length_mask, local_mask
from mmpt.tokenizers.speech.windows import Context
from mmpt.tokenizers.terms import Term

STEM = 3  # the kernel of both convolutions


def with_architecture(config: SpeechConfig) -> SpeechConfig:
    """`config` with the shape of its Whisper checkpoint filled in. Raises `ConfigError` naming all that does not fit."""
    shape = config.encoder
    try:
        known = AutoConfig.from_pretrained(shape.checkpoint)
    except (OSError, ValueError) as problem:
        raise ConfigError(f"encoder.checkpoint: {shape.checkpoint}: no model can be loaded ({problem})") from None
    if not isinstance(known, HuggingFaceConfig):
        raise ConfigError(f"encoder.checkpoint: {shape.checkpoint} is a {known.model_type} model, expected whisper")
    pairs = [
        (shape.layer <= known.encoder_layers, f"encoder.layer is {shape.layer}, the checkpoint has {known.encoder_layers}"),
        (config.mels == known.num_mel_bins, f"mels is {config.mels}, the checkpoint takes {known.num_mel_bins}"),
        (
            config.window * config.pool <= known.max_source_positions,
            f"window is {config.window} codes, at most {known.max_source_positions // config.pool} fit the checkpoint",
        ),
        (2 * shape.overlap < config.window, f"encoder.overlap {shape.overlap} leaves nothing of the window {config.window}"),
        (not shape.block or config.window % shape.block == 0, f"window {config.window} is no multiple of block {shape.block}"),
        (not shape.block or shape.overlap % shape.block == 0, f"overlap {shape.overlap} is no multiple of block {shape.block}"),
    ]
    problems = [problem for fits, problem in pairs if not fits]
    if problems:
        raise ConfigError("\n  ".join([f"{shape.checkpoint}: does not fit the configuration", *problems]))
    prompt = shape.prompt or (known.decoder_start_token_id,)
    filled = shape.model_copy(update={"architecture": known.to_dict(), "prompt": prompt})
    return config.model_copy(update={"encoder": filled})


def whisper_model(config: SpeechConfig) -> WhisperForConditionalGeneration:
    """The model that `with_architecture` found, with random weights."""
    return WhisperForConditionalGeneration(_architecture(config))


def take_weights(encoder: "WhisperSpeechEncoder", reader: "WhisperReader", config: SpeechConfig) -> None:
    """Copy the checkpoint's weights into both; the second position table begins as a copy of the first."""
    model = WhisperForConditionalGeneration.from_pretrained(config.encoder.checkpoint, dtype=torch.float32)
    encoder.whisper.load_state_dict(model.model.encoder.state_dict())
    reader.decoder.load_state_dict(model.model.decoder.state_dict())
    with torch.no_grad():
        table = encoder.whisper.embed_positions.weight
        encoder.code_positions.weight.copy_(table[: len(encoder.code_positions.weight)])


class WhisperSpeechEncoder(nn.Module):
    """Three steps as of `SpeechEncoder`: `states`, `quantize`, `read`."""

    def __init__(self, config: SpeechConfig, whisper: nn.Module):
        super().__init__()
        self.config, self.shape, self.whisper = config, config.encoder, whisper
        dim, inner = whisper.config.d_model, config.quantizer.dim
        self.stem_padding = (STEM - 1, 0) if self.shape.block else (STEM // 2, STEM // 2)
        self.to_code = nn.Identity() if inner == dim else nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, inner))
        self.quantizer = build_quantizer(config.quantizer)
        self.from_code = nn.Identity() if inner == dim else nn.Sequential(nn.Linear(inner, dim), nn.LayerNorm(dim))
        self.code_positions = nn.Embedding(math.ceil(whisper.config.max_source_positions / config.pool), dim)

    @property
    def context(self) -> Context:
        """Windows of `config.window` codes that overlap; see `WhisperConfig`."""
        overlap, block = self.shape.overlap, self.shape.block
        if block is None:
            grid = self.config.window - 2 * overlap
            return Context(overlap, overlap * self.config.samples_per_code, grid, grid)
        return Context(overlap, max(0, WINDOW // 2 - STRIDE * HOP), block, self.config.window - overlap)

    def states(self, mel: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Vectors before the quantiser [B, C, quantizer.dim] of `mel` [B, C · frames_per_code, mels]; `lengths` [B] in codes.

        Our log-mel is (log10 p + 2) ÷ 2 with a fixed floor; Whisper's is (log10 p + 4) ÷ 4 with a floor that follows the loudest
        frame of a clip.
        """
        whisper, pool = self.whisper, self.config.pool
        frames = length_mask(lengths * self.config.frames_per_code, mel.shape[1])
        mask = frames[:, ::STRIDE]
        x = ((mel + 1) / 2 * frames[..., None]).transpose(1, 2).to(whisper.conv1.weight.dtype)
        x = F.gelu(self._convolve(whisper.conv1, x)) * frames[:, None]
        x = F.gelu(self._convolve(whisper.conv2, x)).transpose(1, 2)
        x = x + whisper.embed_positions.weight[: x.shape[1]]
        seen = self._seen(mask, self.shape.block and self.shape.block * pool)
        for layer in whisper.layers[: self.shape.layer]:
            x = _hidden(layer(x, attention_mask=seen))
        x = x.unflatten(1, (-1, pool))
        return self.to_code(x.mean(dim=2) if self.shape.pooling == "avg" else x.amax(dim=2))

    def quantize(self, states: torch.Tensor, lengths: torch.Tensor) -> Quantized:
        """Codes of `states` [B, C, quantizer.dim]; a codebook learns only from positions inside `lengths` [B]."""
        return self.quantizer(states, length_mask(lengths, states.shape[1]))

    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantised vectors [B, C, quantizer.dim] → each one alone [B, C, dim], and all in context for the text decoder."""
        alone = self.from_code(states)
        x = alone + self.code_positions.weight[: states.shape[1]].to(alone.dtype)
        seen = self._seen(length_mask(lengths, x.shape[1]), self.shape.block)
        for layer in self.whisper.layers[self.shape.layer :]:
            x = _hidden(layer(x, attention_mask=seen))
        return alone, self.whisper.layer_norm(x)

    def _convolve(self, layer: nn.Conv1d, x: torch.Tensor) -> torch.Tensor:
        return F.conv1d(F.pad(x, self.stem_padding), layer.weight, layer.bias, layer.stride)

    def _seen(self, mask: torch.Tensor, block: int | None) -> torch.Tensor:
        return local_mask(mask, mask.shape[1], block)


class WhisperReader(nn.Module):
    """Whisper's text decoder, with the padding of what it reads masked; methods as of `TextDecoder`."""

    def __init__(self, config: SpeechConfig, model: WhisperForConditionalGeneration):
        super().__init__()
        self.decoder = model.model.decoder
        self.prompt, self.end = list(config.encoder.prompt), model.config.eos_token_id

    def forward(self, ids: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits of the next token [B, L, vocabulary] after each of `ids` [B, L], given `states` [B, C, dim] of `lengths` [B]."""
        decoder = self.decoder
        x = decoder.embed_tokens(ids) * decoder.embed_scale
        x = x + decoder.embed_positions.weight[: ids.shape[1]]
        past = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).tril()[None, None]
        heard = length_mask(lengths, states.shape[1])[:, None, None].expand(-1, 1, ids.shape[1], -1)
        for layer in decoder.layers:
            x = _hidden(
                layer(
                    x,
                    attention_mask=past,
                    encoder_hidden_states=states,
                    encoder_attention_mask=heard,
                    past_key_values=None,
                    use_cache=False,
                )
            )
        return F.linear(decoder.layer_norm(x), decoder.embed_tokens.weight)  # tied, as in every Whisper

    def losses(
        self, texts: list[list[int]], states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[Term, Term]:
        """Cross-entropy of each token of `texts` and of the end after them; no CTC.

        Raises `DataError` where a text is longer than the decoder's position table.
        """
        rows = [[*self.prompt, *text, self.end] for text in texts]
        longest = max(map(len, rows))
        if longest - 1 > self.decoder.max_target_positions:
            most = self.decoder.max_target_positions - len(self.prompt)
            raise DataError(f"a transcript of {longest - len(self.prompt) - 1} tokens, at most {most} are read")
        ids = torch.tensor([row + [self.end] * (longest - len(row)) for row in rows], device=states.device)
        sizes = torch.tensor([len(row) for row in rows], device=states.device)
        logits = self(ids[:, :-1], states, lengths)
        places = torch.arange(1, longest, device=states.device)
        learned = (places >= len(self.prompt)) & (places < sizes[:, None])
        reading = F.cross_entropy(logits[learned].float(), ids[:, 1:][learned], reduction="sum")
        nothing = torch.zeros((), device=states.device)
        return Term(reading, learned.sum().to(reading.dtype)), Term(nothing, nothing)

    def read(self, states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        """The most probable token at each step until the end token; at most two tokens for each code and four more."""
        limits = (2 * lengths + 4).clamp_max(self.decoder.max_target_positions - len(self.prompt))
        ids = torch.tensor([self.prompt] * len(states), device=states.device)
        running = torch.ones(len(states), dtype=torch.bool, device=states.device)
        while running.any():
            following = self(ids, states, lengths)[:, -1].argmax(dim=-1)
            running = running & (following != self.end) & (ids.shape[1] - len(self.prompt) < limits)
            ids = torch.cat([ids, torch.where(running, following, self.end)[:, None]], dim=1)
        return [[i for i in row[len(self.prompt) :] if i != self.end] for row in ids.tolist()]


def _architecture(config: SpeechConfig) -> HuggingFaceConfig:
    if not config.encoder.architecture:
        raise ConfigError("encoder.architecture is empty: it is filled in from the checkpoint where training starts")
    known = HuggingFaceConfig(**config.encoder.architecture)
    known._attn_implementation = "sdpa"  # takes masks of true and false
    return known


def _hidden(out: torch.Tensor | tuple) -> torch.Tensor:
    return out[0] if isinstance(out, tuple) else out
