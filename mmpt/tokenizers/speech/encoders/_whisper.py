"""The modules of `Whisper`: a Whisper checkpoint as recogniser, a quantiser in the middle of its encoder.

GLM-4-Voice's design (Zeng et al. 2024, section 3.1; the released configuration of its tokenizer): pooling and quantiser after a
layer of Whisper's encoder, a second position table behind it, the remaining layers and Whisper's own text decoder. What lies
behind a clip is the silence that the settings ask for, which Whisper has learned to hear, and is masked beyond it: codes do not
depend on what else is in a batch.
"""

import math
from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import DynamicCache, EncoderDecoderCache, WhisperForConditionalGeneration
from transformers import WhisperConfig as HuggingFaceConfig
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer, WhisperEncoder

from mmpt.errors import ConfigError, DataError
from mmpt.layers.masks import length_mask, local_mask
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.constants import HOP, STRIDE
from mmpt.tokenizers.speech.encoders._restorer import Restorer
from mmpt.tokenizers.speech.encoders._whisper_rows import before_silence, explained_by_position, filled, principal_components
from mmpt.tokenizers.speech.encoders.whisper import Whisper
from mmpt.tokenizers.speech.features import SILENCE, WINDOW
from mmpt.tokenizers.speech.lessons import Lesson
from mmpt.tokenizers.speech.recognizer import EncoderModule, TextDecoder
from mmpt.tokenizers.speech.windows import Context
from mmpt.tokenizers.terms import Term, distance

STEM = 3  # the kernel of both convolutions
# transformers 5.2x renamed it, and will stop taking the older name.
CACHE = "cache" if "cache" in signature(WhisperDecoderLayer.forward).parameters else "past_key_values"
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

    def __init__(self, config: SpeechConfig, shape: Whisper, whisper: WhisperEncoder):
        super().__init__()
        self.config, self.shape, self.whisper = config, shape, whisper
        dim, inner = whisper.config.d_model, config.quantizer.dim
        self.stem_padding = (STEM - 1, 0) if self.shape.block else (STEM // 2, STEM // 2)
        self.to_code = nn.Identity() if inner == dim else nn.Linear(dim, inner)
        self.quantizer = config.quantizer.build()
        self.from_code = nn.Identity() if inner == dim else nn.Linear(inner, dim)
        heads = whisper.config.encoder_attention_heads
        self.restorer = Restorer(dim, heads, shape.restore) if shape.restore else None
        self.code_positions = nn.Embedding(math.ceil(whisper.config.max_source_positions / config.pool), dim)
        self.silence: torch.Tensor | None = None  # at each place of a window, positions and all
        if self.shape.silence_read:
            self.register_buffer("silence", torch.zeros(config.window, dim))

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
        final, heard = self._layers(mel, lengths, self.shape.model_copy(update={"silence": None}), len(self.whisper.layers))
        pooled = self.whisper.layer_norm(self._pooled(final))[:, : mel.shape[1] // self.config.frames_per_code]
        return torch.cat([self.hear(mel, lengths), pooled], dim=-1), self.whisper.layer_norm(final), heard.sum(dim=1)

    def before_code(self, hidden: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        left = self._before_quantiser(hidden)
        if self.training and self.shape.noise:
            left = left + self.shape.noise * left.std(dim=(0, 1)) * torch.randn_like(left)
        return self.to_code(left)

    def states_beyond(self, mel: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden, heard = self._hear(mel, lengths, self.shape)
        return self.before_code(hidden, heard), heard

    def read(self, states: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        alone = self.from_code(states.to(self.code_positions.weight.dtype))  # a codebook stays float32
        if self.restorer is not None:
            alone = self.restorer(alone, lengths)
        x = alone + self.code_positions.weight[: states.shape[1]].to(alone.dtype)
        if self.silence is not None:
            x, lengths = before_silence(x, lengths, self.silence.to(x.dtype)), torch.full_like(lengths, len(self.silence))
        if self.shape.whole:
            return alone, x, lengths
        seen = self._seen(length_mask(lengths, x.shape[1]), self.shape.block)
        for layer in self.whisper.layers[self.shape.layer :]:
            x = _hidden(layer(x, attention_mask=seen))
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
            if isinstance(self.to_code, nn.Linear) and isinstance(self.from_code, nn.Linear):
                scale = left.std(dim=0).clamp_min(1e-6).rsqrt()
                mean, axes = principal_components(left * scale, self.to_code.out_features)
                self.to_code.weight.copy_(axes.t() * scale)
                self.to_code.bias.copy_(-mean @ axes)
                self.from_code.weight.copy_(axes / scale[:, None])
                self.from_code.bias.copy_(mean / scale)
            if self.restorer is not None:
                self.restorer.begin(left)
            self.quantizer.begin(self.to_code(left))

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
        x, heard = self._layers(mel, lengths, shape, shape.layer)
        hidden = self._pooled(x)
        if self.shape.whole:
            # The norm before the pooling would weigh all frames alike: it doubles the word error rate at 12.5 Hz.
            hidden = self.whisper.layer_norm(hidden)
        return hidden, -(-heard.sum(dim=1) // self.config.pool)

    def _layers(self, mel: torch.Tensor, lengths: torch.Tensor, shape: Whisper, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """States of 50 Hz behind the first `count` layers, [B, frames, dim], and which of them are heard, [B, frames]."""
        whisper = self.whisper
        mask, x = self._frames(mel, lengths, shape)
        x = x.transpose(1, 2).to(whisper.conv1.weight.dtype)
        heard = mask[:, ::STRIDE]
        x = F.gelu(self._convolve(whisper.conv1, x)) * mask[:, None]
        x = F.gelu(self._convolve(whisper.conv2, x)).transpose(1, 2)
        x = x + whisper.embed_positions.weight[: x.shape[1]]
        seen = self._seen(heard, None if shape.block is None else shape.block * self.config.pool)
        for layer in whisper.layers[:count]:
            x = _hidden(layer(x, attention_mask=seen))
        return x, heard

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
        self.never, self.never_first = list(shape.never), list(shape.never_first)
        self.most_tokens = self.decoder.max_target_positions - len(self.prompt)

    def forward(self, ids: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Logits of the next token [B, L, vocabulary] after each of `ids` [B, L], given `states` [B, C, dim] of `lengths` [B]."""
        return self._logits(self._decoded(ids, states, lengths))

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, (self.head or self.decoder.embed_tokens).weight)

    def _decoded(
        self, ids: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor, cache: EncoderDecoderCache | None = None
    ) -> torch.Tensor:
        """What the head takes, [B, L, dim]. With `cache`, `ids` go on from those it was given before, and their keys and values
        are added to it."""
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
                    use_cache=cache is not None,
                    **{CACHE: cache},
                )
            )
        return decoder.layer_norm(x)

    def losses(
        self,
        texts: list[list[int]],
        states: torch.Tensor,
        alone: torch.Tensor,
        lengths: torch.Tensor,
        lessons: Sequence[Lesson] = (),
    ) -> tuple[Term, Term]:
        # `most_tokens` is where the decoder's position table ends. There is no CTC: Whisper has no head for it.
        texts = [lesson.text for lesson in lessons] or texts
        if max(map(len, texts)) > self.most_tokens:
            raise DataError(f"a transcript of {max(map(len, texts))} tokens, at most {self.most_tokens} are read")
        logits, wanted = self._logits_of(texts, states, lengths)
        reading = F.cross_entropy(logits, wanted, reduction="sum")
        if lessons:
            reading = reading + apart(logits, lessons)[wanted != self.end].sum()
        nothing = torch.zeros((), device=states.device)
        return Term(reading, reading.new_tensor(float(len(wanted)))), Term(nothing, nothing)

    def _logits_of(
        self, texts: list[list[int]], states: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [n, vocabulary], float32, of all tokens of `texts` and the end behind each, one text after the other; and these
        tokens [n]."""
        rows = [[*self.prompt, *text, self.end] for text in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self.end] * (longest - len(row)) for row in rows], device=states.device)
        sizes = torch.tensor([len(row) for row in rows], device=states.device)
        hidden = self._decoded(ids[:, :-1], states, lengths)
        positions = torch.arange(1, longest, device=states.device)
        learned = (positions >= len(self.prompt)) & (positions < sizes[:, None])
        # The table of the head is as large as the rest of a small decoder: no logits of what is not learned.
        return self._logits(hidden[learned]).float(), ids[:, 1:][learned]

    def lesson(self, states: torch.Tensor, lengths: torch.Tensor) -> Lesson:
        (text,) = self.read(states, states, lengths)
        logits, _ = self._logits_of([text], states, lengths)
        log_probs, likely = logits.log_softmax(dim=-1).topk(min(LIKELY, logits.shape[-1]))
        return Lesson(text, likely.int().cpu(), log_probs.half().cpu())

    def read(self, states: torch.Tensor, alone: torch.Tensor, lengths: torch.Tensor) -> list[list[int]]:
        limits = (2 * lengths + 4).clamp_max(self.most_tokens)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        given = torch.tensor([self.prompt] * len(states), device=states.device)
        running = torch.ones(len(states), dtype=torch.bool, device=states.device)
        rows: list[list[int]] = [[] for _ in states]
        while running.any():
            logits = self._logits(self._decoded(given, states, lengths, cache)[:, -1])
            logits[:, self.never if rows[0] or not self.never_first else [*self.never, *self.never_first]] = -torch.inf
            following = logits.argmax(dim=-1)
            for row, token in zip(rows, following.tolist(), strict=True):
                row.append(token)
            circling = torch.tensor([circle(row) > 0 for row in rows], device=states.device)
            running = running & (following != self.end) & ~circling & (len(rows[0]) <= limits)
            given = torch.where(running, following, self.end)[:, None]
        return [self._read(row, int(limit)) for row, limit in zip(rows, limits.tolist(), strict=True)]

    def _read(self, row: list[int], limit: int) -> list[int]:
        """Up to the end token, `limit`, or the first time round of a circle."""
        for size in range(len(row)):
            if row[size] == self.end or size == limit:
                return row[:size]
            if again := circle(row[: size + 1]):
                return row[: size + 1 - again]
        return row


def apart(logits: torch.Tensor, lessons: Sequence[Lesson]) -> torch.Tensor:
    """KL(lesson ‖ `logits`) of each next token, [n], of `logits` [n, vocabulary]: of the likely ids of the lessons, one after the
    other, and all others as one."""
    likely = torch.cat([lesson.likely for lesson in lessons]).to(logits.device, torch.int64)
    wanted = torch.cat([lesson.log_probs for lesson in lessons]).to(logits.device, torch.float32)
    found, share = logits.log_softmax(dim=-1).gather(1, likely), wanted.exp()
    rest, others = ((1 - some.sum(dim=1)).clamp_min(1e-5) for some in (share, found.exp()))
    return (share * (wanted - found)).sum(dim=1) + rest * (rest.log() - others.log())


LIKELY = 32
"""Next tokens whose probabilities are kept of a lesson: all of them would be 100 kB for each token."""
LEAST_ROUND = 12
"""Tokens that a circle has at least in all its rounds."""


def circle(tokens: list[int]) -> int:
    """How many of the last tokens repeat those before them: where the end of a text is one sequence of tokens at least three
    times, `LEAST_ROUND` tokens or more in all, the length of all rounds but the first; else 0.

    People say a word three times, and Whisper's decoder, left without an end, says the same to its limit (Radford et al. 2022,
    section 4.5, look for this by the compression ratio)."""
    for size in range(1, len(tokens) // 3 + 1):
        end, rounds = len(tokens), 1
        while end >= 2 * size and tokens[end - 2 * size : end - size] == tokens[end - size : end]:
            end, rounds = end - size, rounds + 1
        if rounds >= 3 and rounds * size >= LEAST_ROUND:
            return (rounds - 1) * size
    return 0


def _architecture(shape: Whisper) -> HuggingFaceConfig:
    if not shape.architecture:
        raise ConfigError("encoder.architecture is empty: it is filled in from the checkpoint where training starts")
    known = HuggingFaceConfig(**shape.architecture)
    known._attn_implementation = "sdpa"  # takes masks of true and false
    return known


def _hidden(out: torch.Tensor | tuple) -> torch.Tensor:
    return out[0] if isinstance(out, tuple) else out
