"""Speech ↔ codes at 12.5 Hz: recognition-supervised, so a code says what is spoken rather than by whom."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerBase

from mmpt.codebooks import FrameReader, by_frame
from mmpt.errors import CheckpointError, ConfigError, DataError
from mmpt.layers.masks import length_mask
from mmpt.storage import published_folder, read_json, write_json
from mmpt.tokenizers.speech.batches import SpeechBatch, SpeechExample, Utterance, code_count
from mmpt.tokenizers.speech.coder import SpeechCoder, joined, saved_config
from mmpt.tokenizers.speech.config import FORMAT, MelDecoderConfig, SpeechConfig
from mmpt.tokenizers.speech.decoder import SpeechDecoder
from mmpt.tokenizers.speech.features import SILENCE, heard, log_mel
from mmpt.tokenizers.speech.lessons import MISREAD, Heard, misread
from mmpt.tokenizers.speech.long_reading import merged, pieces
from mmpt.tokenizers.speech.reference import commonest
from mmpt.tokenizers.speech.streaming import WaveStream, checked, wanted
from mmpt.tokenizers.speech.vocoder import VocoderModule, build_vocoder
from mmpt.tokenizers.speech.windows import Window, code_windows
from mmpt.tokenizers.terms import Term, Trainable, codebook_terms
from mmpt.tokenizers.text import decode_text, encode_text, load_text_tokenizer


class SpeechTokenizer(SpeechCoder, Trainable):
    """Encoder, codebook and both decoders. In `fit`, a training batch is a `SpeechBatch`."""

    default_voice: torch.Tensor
    loudness: torch.Tensor

    def __init__(self, config: SpeechConfig, text: PreTrainedTokenizerBase):
        encoder, reader = config.encoder.build_recognizer(config, len(text))
        super().__init__(config, encoder)
        self.text = text
        self.reader = reader
        self.speaker = SpeechDecoder(config)
        self.register_buffer("default_voice", torch.zeros(self.speaker.voiced_by))
        self.register_buffer("loudness", torch.zeros(self.codes))  # of each code; all alike: unknown

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **options: Any) -> None:
        state_dict.setdefault(f"{prefix}loudness", torch.zeros_like(self.loudness))  # saved before it was measured
        super()._load_from_state_dict(state_dict, prefix, *args, **options)

    def decode(
        self, codes: Sequence[np.ndarray], voice: np.ndarray | None = None, prompt: np.ndarray | None = None
    ) -> list[np.ndarray]:
        """A waveform (float32 in −1 … 1, at `sound_rate`, as long as its codes) of each code sequence, in `voice` or the default
        one.

        `prompt`: a waveform (float32, 16 kHz) whose voice is taken, and which the flow goes on from. Raises `DataError` naming a
        sequence that is empty or holds something other than codes, and where both a voice and a prompt are given.
        """
        if voice is not None and prompt is not None:
            raise DataError("a voice and a prompt: expected one of them")
        rows = [self.vectors(np.asarray(sequence), number) for number, sequence in enumerate(codes)]
        mels = self._mels(rows, self._voice_or_default(voice)) if prompt is None else self._continued(rows, prompt)
        return self._waveforms(mels)

    def _waveforms(self, mels: list[torch.Tensor]) -> list[np.ndarray]:
        def spoken(mel: torch.Tensor) -> np.ndarray:
            with torch.inference_mode():
                return self.speaker.waveform(mel).cpu().numpy()

        threads = torch.get_num_threads()
        if min(len(mels), threads) < 2 or mels[0].is_cuda:
            return [spoken(mel) for mel in mels]
        with ThreadPoolExecutor(threads) as pool:  # the operations of one are too small to share out
            return list(pool.map(spoken, mels))

    @property
    def sound_rate(self) -> int:
        """Hz of decoded sound: 16 or, of a vocoder of such, 24 thousand."""
        return self.speaker.vocoder.config.sound_rate

    @property
    def speaks_in_blocks(self) -> bool:
        """Whether `speaking` gives sound long before the end."""
        return self.config.decoder.block is not None

    @contextmanager
    def speaking(self, voice: np.ndarray | None = None) -> Iterator[WaveStream]:
        """A stream of codes to sound: `push(codes)` and at the end `finish()` give the samples of `decode`, as soon as they are
        final: with `decoder.block`, as much after the end of their block as the vocoder looks ahead (0.2 s of `istft`, 0.7 s of
        `griffin_lim`)."""
        vector, block = self._voice_or_default(voice), self.config.decoder.block or 1

        depth, per_code = self.config.quantizer.depth, self.config.frames_per_code

        def mel(frames: np.ndarray, start: int) -> torch.Tensor:
            codes = self._numbered(frames)
            return self._batched([codes], [len(codes)], lambda batch, sizes: self._spoken(batch, sizes, vector, [start]))[0]

        read = FrameReader(depth, self.codes // depth, self.config.layout)
        yield WaveStream(per_code, read, self.speaker.reach, block, mel, self.speaker.vocoder)

    def transcribe(self, codes: Sequence[np.ndarray]) -> list[str]:
        """The text of each code sequence, of any length, as the tokenizer's own text decoder reads it."""
        rows = [self.vectors(np.asarray(sequence), number) for number, sequence in enumerate(codes)]
        table = self.loudness.float().cpu().numpy()
        return self._texts(rows, self._code_states, [table[row].reshape(len(row), -1)[:, 0] for row in rows])

    def recognize(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """The text of each waveform, of any length, read through the quantised states; also of a tokenizer without a quantiser.
        Of one without a sound, nothing. What is longer than what was learned is cut at its pauses and each piece read by itself.
        """
        cut = [self._at_pauses(checked(samples, f"waveform {number}")) for number, samples in enumerate(waveforms)]
        texts = iter(self._recognized([piece for found in cut for piece in found]))
        return [" ".join(text for _ in found if (text := next(texts).strip())) for found in cut]

    def _at_pauses(self, samples: np.ndarray) -> list[np.ndarray]:
        frames = code_count(len(samples), self.config) * self.config.frames_per_code
        mel = log_mel(torch.from_numpy(samples), self.config.mels, frames)
        loud = _loudness(mel, self.config.frames_per_code).numpy()
        found, size = pieces(len(loud), self._longest, loud, self.config.vector_rate), self.config.samples_per_code
        overlap = any(one.end > other.start for one, other in zip(found, found[1:], strict=False))
        return [samples] if overlap else [samples[one.start * size : one.end * size] for one in found]

    def _recognized(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        device = self.default_voice.device

        def padded(batch: list[np.ndarray]) -> torch.Tensor:
            return nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in batch], batch_first=True).to(device)

        rows = self._quantized(waveforms, lambda found: found.states.float()) if self.codes else self._heard_on(waveforms)
        texts = self._texts(rows, padded)
        return [text if heard(samples) else "" for samples, text in zip(waveforms, texts, strict=True)]

    @property
    def _longest(self) -> int:
        """Codes of the longest utterance whose text was learned."""
        return min(self.config.longest or self.config.window, self.config.window)

    def use_vocoder(self, vocoder: VocoderModule) -> None:
        """Make waveforms by `vocoder` from now on; it is saved with the tokenizer. Raises `ConfigError` where it takes others."""
        if vocoder.config.bands not in (None, self.config.mels):
            raise ConfigError(f"the vocoder takes {vocoder.config.bands} mel bands, the tokenizer makes {self.config.mels}")
        self.speaker.vocoder = vocoder.to(self.default_voice.device)

    def use_decoder(self, decoder: MelDecoderConfig | SpeechDecoder) -> None:
        """Speak by a new decoder of that shape from now on, or by the given one; the vocoder stays. Raises `ConfigError` where
        the given one takes others."""
        given = decoder if isinstance(decoder, SpeechDecoder) else None
        config = self.config.model_copy(update={"decoder": given.config.decoder if given else decoder})
        if given and (theirs := _spoken_shape(given.config)) != (ours := _spoken_shape(config)):
            raise ConfigError(f"a decoder of {theirs}, expected {ours}")
        speaker, device = given or SpeechDecoder(config), self.default_voice.device
        speaker.config, speaker.vocoder = config, self.speaker.vocoder
        self.config, self.speaker = config, speaker.to(device)
        self.register_buffer("default_voice", torch.zeros(speaker.voiced_by, device=device))

    def voice(self, samples: np.ndarray) -> np.ndarray:
        """The voice of a waveform (float32, 16 kHz): float32 [decoder.voice], to be given to `decode`."""
        with torch.inference_mode():
            return self.speaker.voice(self._kept_voice(checked(samples, "voice")))[0].float().cpu().numpy()

    def choose_default_voice(self, waveforms: Sequence[np.ndarray]) -> None:
        """Make the commonest voice the default, by up to 1000 of the `waveforms` (float32 [samples], 16 kHz), spread over all."""
        places = range(0, len(waveforms), -(-len(waveforms) // 1000))
        with torch.inference_mode():
            kept = torch.cat([self._kept_voice(waveforms[place]) for place in places]).float()
        self.default_voice.copy_(kept[commonest(kept)])

    def _kept_voice(self, samples: np.ndarray) -> torch.Tensor:
        """What is kept of a voice, [1, speaker.voiced_by]."""
        frames = code_count(len(samples), self.config) * self.config.frames_per_code
        mel = log_mel(torch.from_numpy(samples), self.config.mels, frames)[None]
        return self.speaker.kept_voice(mel.to(next(self.speaker.parameters())))

    def why_not_learned(self, example: SpeechExample) -> str:
        """Why `example` cannot be learned from: it is longer than a window, or its text than the text decoder reads; else ""."""
        most, codes = self.reader.most_tokens, code_count(len(example.samples), self.config)
        if codes > self.config.window:
            return f"{codes} codes, longer than the window of {self.config.window}"
        tokens = len(encode_text(self.text, example.text))
        return f"a transcript of {tokens} tokens, at most {most} are read" if tokens > most else ""

    def study(self, mel: torch.Tensor, text: str) -> Heard:
        """What a fixed encoder hears of an utterance of log-mel `mel` [T, mels], and what is to be read of it: what is read
        without a quantiser, as it is (Gandhi et al. 2023, "Distil-Whisper", arXiv:2311.00430, section 3). Raises `DataError`
        where that is too far from `text`."""
        lengths = torch.tensor([len(mel) // self.config.frames_per_code], device=self.default_voice.device)
        with torch.no_grad():
            hidden, states, sizes = self.encoder.hear_whole(mel[None].to(lengths.device), lengths)
            if not self.config.encoder.learns_text:
                return Heard(hidden[0], None)
            lesson = self.reader.lesson(states, sizes)
        read = decode_text(self.text, lesson.text)
        if (wrong := misread(text, read)) > MISREAD:
            raise DataError(f"{wrong:.0%} of the letters of its text are read otherwise: {read[:40]!r}, it is {text[:40]!r}")
        return Heard(hidden[0], lesson)

    def listen(self, mel: torch.Tensor, text: str) -> Heard:
        """The same where nothing is to be read."""
        lengths = torch.tensor([len(mel) // self.config.frames_per_code], device=self.default_voice.device)
        with torch.no_grad():
            return Heard(self.encoder.hear(mel[None].to(lengths.device), lengths)[0], None)

    def loss(self, batch: SpeechBatch, progress: float) -> dict[str, Term]:
        """Recognition through the codes, and what the mel decoder asks of them; quantised from `config.quantize_from` on."""
        batch = batch.to(self.default_voice.device)
        hidden = self.encoder.hear(batch.heard, batch.lengths) if batch.hidden is None else batch.hidden
        states, terms, used = self.encoder.before_code(hidden, batch.lengths), {}, {}
        if progress >= self.config.quantize_from:
            found = self.encoder.quantize(states, batch.lengths)
            states = found.states
            if self.codes:
                codes = found.codes[length_mask(batch.lengths, states.shape[1])]
                terms["commitment"] = Term(found.loss, found.count)
                used = codebook_terms(codes, self.codes, self.encoder.quantizer.restart_count())
        else:
            states = self.encoder.quantizer.bounded(states)  # so that rounding is all that will change
        alone, context, sizes = self.encoder.read(states, batch.lengths)
        if self.config.encoder.learns_text:
            texts = [encode_text(self.text, text) for text in batch.texts]
            reading, ctc = self.reader.losses(texts, context, alone, sizes, batch.lessons)
            terms |= {"reading": reading, "ctc": ctc._replace(weight=self.config.ctc_weight)}
        if weight := self.config.distance_weight:
            apart = self.encoder.distances(hidden, alone, context, batch.lengths)
            terms |= {name: term._replace(weight=weight) for name, term in apart.items()}
        if self.config.mel_weight:
            (mel,) = self.speaker.losses(states, batch.lengths, batch.spoken, with_flow=False).values()
            terms["mel"] = mel._replace(weight=self.config.mel_weight)
        return {**terms, **used}

    def save(self, folder: Path) -> None:
        """Write config, weights and text tokenizer to `folder`, atomically."""
        with published_folder(folder, {"format": FORMAT}) as temporary:
            write_json(temporary / "config.json", self.config.model_dump(mode="json"))
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, temporary / "model.safetensors")
            self.text.save_pretrained(temporary / "text")
            write_json(temporary / "vocoder.json", self.speaker.vocoder.config.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> "SpeechTokenizer":
        """The tokenizer saved in `folder`, in eval mode. Raises `CheckpointError` where the folder is not whole."""
        folder = Path(folder)
        config = saved_config(folder)
        tokenizer = cls(config, load_text_tokenizer(folder / "text"))
        if (folder / "vocoder.json").exists():  # folders of before it was always written have Griffin-Lim without saying so
            shape = read_json(folder / "vocoder.json", CheckpointError)
            tokenizer.speaker.vocoder = build_vocoder(shape, f"{folder}/vocoder.json")
        try:
            tokenizer.load_state_dict(load_file(folder / "model.safetensors"))
        except (RuntimeError, SafetensorError) as problem:
            raise CheckpointError(f"{folder}/model.safetensors does not fit config.json ({problem})") from None
        return tokenizer.eval()

    def _mels(self, rows: list[np.ndarray], voice: torch.Tensor) -> list[torch.Tensor]:
        """Log-mels [C · frames_per_code, mels] of checked codes, in overlapping windows."""
        size, reach, block = self.config.window, self.speaker.reach, self.config.decoder.block or 1
        cuts = [(number, one) for number, row in enumerate(rows) for one in code_windows(len(row), size, reach, block)]

        def speak(batch: list[tuple[int, Window]], lengths: torch.Tensor) -> list[torch.Tensor]:
            pieces = [rows[number][one.start : one.end] for number, one in batch]
            mels = self._spoken(pieces, lengths, voice, [one.start for _, one in batch])
            return [
                wanted(mel.unflatten(0, (-1, self.config.frames_per_code)), one)
                for mel, (_, one) in zip(mels, batch, strict=True)
            ]

        found = self._batched(cuts, [one.end - one.start for _, one in cuts], speak)
        owners = [number for number, _ in cuts]
        return [torch.from_numpy(row).flatten(0, 1) for row in joined(found, owners, len(rows))]

    def _continued(self, rows: list[np.ndarray], prompt: np.ndarray) -> list[torch.Tensor]:
        """The same for what is said after `prompt`, in its voice."""
        first = self.vectors(self.encode([prompt])[0], 0)
        frames = len(first) * self.config.frames_per_code
        given = log_mel(torch.from_numpy(prompt), self.config.mels, frames)[None].to(self.default_voice.device)
        voice = torch.from_numpy(self.voice(prompt))

        def speak(batch: list[np.ndarray], lengths: torch.Tensor) -> list[torch.Tensor]:
            mels = self._spoken(batch, lengths, voice, [0] * len(batch), given.expand(len(batch), -1, -1))
            return [mel[frames:] for mel in mels]

        whole = [np.concatenate([first, row]) for row in rows]
        return self._batched(whole, [len(row) for row in whole], speak)

    def _spoken(
        self,
        codes: list[np.ndarray],
        lengths: torch.Tensor,
        voice: torch.Tensor,
        starts: list[int],
        prompt: torch.Tensor | None = None,
    ) -> list[torch.Tensor]:
        like = next(self.speaker.parameters())  # codebooks stay float32 whatever the module is cast to
        voices, states = (part.to(like) for part in (voice.expand(len(codes), -1), self._code_states(codes)))
        mels = self.speaker.mels(states, lengths, voices, starts, prompt if prompt is None else prompt.to(like)).float()
        return [mel[: length * self.config.frames_per_code].cpu() for mel, length in zip(mels, lengths.tolist(), strict=True)]

    def _heard_on(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """States [vectors, dim] of waveforms that no code is made of: of those that fit a window, the silence behind them too."""
        window, fits = self.config.window, []
        rows = [checked(samples, f"waveform {number}") for number, samples in enumerate(waveforms)]
        for number, samples in enumerate(rows):
            if code_count(len(samples), self.config) <= window:
                fits.append(number)

        def listen(batch: list[np.ndarray], lengths: torch.Tensor) -> list[np.ndarray]:
            padded = nn.utils.rnn.pad_sequence([torch.from_numpy(samples) for samples in batch], batch_first=True)
            states, heard = self.encoder.states_beyond(self._features(padded.to(lengths.device), lengths), lengths)
            return [row[:length].float().cpu().numpy() for row, length in zip(states, heard.tolist(), strict=True)]

        short = self._batched([rows[number] for number in fits], [code_count(len(rows[n]), self.config) for n in fits], listen)
        whole = iter(self._quantized([rows[n] for n in range(len(rows)) if n not in fits], lambda found: found.states.float()))
        given = dict(zip(fits, short, strict=True))
        return [given[number] if number in given else next(whole) for number in range(len(rows))]

    def measure_loudness(self, utterances: Iterable[Utterance]) -> None:
        """Know of each code how loud it is, the mean log-mel of its frames in `utterances`: long speech is cut at its pauses. A
        code that is in none of them is as loud as their mean."""
        totals = torch.zeros(2, self.codes, dtype=torch.float64)
        for one in utterances:
            found = self._codes_heard(one).reshape(len(one.mel) // self.config.frames_per_code, -1)
            loud = _loudness(one.mel, self.config.frames_per_code)
            for codes in found.t():  # of a residual quantiser one for each stage
                totals.index_add_(1, codes, torch.stack([loud, torch.ones_like(loud)]).double())
        mean = totals[0].sum() / totals[1].sum().clamp_min(1)
        self.loudness.copy_(torch.where(totals[1] > 0, totals[0] / totals[1].clamp_min(1), mean))

    def _codes_heard(self, one: Utterance) -> torch.Tensor:
        """Codes of what a batch takes of an utterance."""
        device, size = self.default_voice.device, len(one.mel) // self.config.frames_per_code
        lengths = torch.tensor([size], device=device)
        with torch.inference_mode():
            mel = one.mel[None].to(device)
            hidden = self.encoder.hear(mel, lengths) if one.hidden is None else one.hidden[None].to(device).float()
            return self.encoder.quantize(self.encoder.before_code(hidden, lengths), lengths).codes[0].cpu()

    def _texts(
        self,
        rows: list[np.ndarray],
        states_of: Callable[[list[np.ndarray]], torch.Tensor],
        loudness: list[np.ndarray] | None = None,
    ) -> list[str]:
        """The text of each of `rows`, which `states_of` makes vectors of, read in pieces no longer than those of training.
        `loudness`: of each vector of each."""
        loud = loudness or [None] * len(rows)
        cuts = [pieces(len(row), self._longest, one, self.config.vector_rate) for row, one in zip(rows, loud, strict=True)]

        def read(batch: list[np.ndarray], lengths: torch.Tensor) -> list[list[int]]:
            alone, context, sizes = self.encoder.read(states_of(batch), lengths)
            return self.reader.read(context, alone, sizes)

        cut = [row[one.start : one.end] for row, found in zip(rows, cuts, strict=True) for one in found]
        ids = iter(self._batched(cut, [len(piece) for piece in cut], read))
        return [decode_text(self.text, merged([next(ids) for _ in found], found)) for found in cuts]

    def _code_states(self, codes: list[np.ndarray]) -> torch.Tensor:
        """Quantised vectors [B, C, quantizer.dim] of code sequences [C] or [C, depth], filled up to the longest."""
        rows = nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in codes], batch_first=True, padding_value=0)
        if rows.ndim == 3:  # of a residual quantiser: what fills up must be codes of each stage too
            rows = torch.maximum(rows, torch.arange(rows.shape[2]) * (self.codes // rows.shape[2]))
        return self.encoder.quantizer.decode(rows.to(self.default_voice.device))

    def vectors(self, sequence: np.ndarray, number: int) -> np.ndarray:
        """A code sequence as int64 [C], or [C, depth] of a residual quantiser; `number` names it in messages. Raises `DataError`
        where it holds something other than codes, or nothing."""
        if sequence.ndim != 1 or not len(sequence) or not np.issubdtype(sequence.dtype, np.integer):
            raise DataError(f"sequence {number}: expected integer codes in one dimension, at least one")
        if sequence.min() < 0 or sequence.max() >= self.codes:
            raise DataError(f"sequence {number}: codes {sequence.min()} … {sequence.max()}, expected 0 … {self.codes - 1}")
        try:
            depth = self.config.quantizer.depth
            return self._numbered(by_frame(sequence, depth, self.codes // depth, self.config.layout))
        except ValueError as problem:
            raise DataError(f"sequence {number}: {problem} (layout {self.config.layout})") from None

    def _numbered(self, frames: np.ndarray) -> np.ndarray:
        """Frames [C, depth] as the quantiser numbers their codes: [C], or [C, depth] of a residual one."""
        depth = self.config.quantizer.depth
        return frames[:, 0] if depth == 1 else frames + self.codes // depth * np.arange(depth)

    def _voice_or_default(self, voice: np.ndarray | None) -> torch.Tensor:
        if voice is None:
            return self.speaker.voice(self.default_voice[None].to(next(self.speaker.parameters())))[0].detach()
        vector = torch.from_numpy(np.array(voice, dtype=np.float32))
        if vector.shape != (self.config.decoder.voice,) or not vector.isfinite().all():
            raise DataError(f"voice: expected {self.config.decoder.voice} finite numbers, found shape {tuple(vector.shape)}")
        return vector


def _loudness(mel: torch.Tensor, frames_per_code: int) -> torch.Tensor:
    """The mean [C] of log-mel frames [C · frames_per_code, mels]."""
    return mel.clamp_min(SILENCE).unflatten(0, (-1, frames_per_code)).mean(dim=(1, 2))


def _spoken_shape(config: SpeechConfig) -> str:
    return f"{config.mels} mel bands, {config.frames_per_code} frames for a code of {config.quantizer.dim} values"
