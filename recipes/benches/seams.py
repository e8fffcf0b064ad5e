"""Sound that is spoken as its codes come, against the same codes spoken at once: the whole, and at the seams alone.

    OMP_NUM_THREADS=1 python recipes/benches/seams.py TOKENIZER VOCODER SPEECH

TOKENIZER: a trained speech tokenizer whose decoder speaks in blocks, through VOCODER, the folder of one by
tokenizers/vocoder.yaml (`own`: through its own); SPEECH: a folder of recordings. Writes recipes/results/seams.json. The worst
utterance counts. Beside them those of pieces that do not overlap: what the bars would not let pass.

The same of answers in which 13 tokens of text and 26 codes of speech come in turn, as they are heard, at the joints of their
blocks of codes.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import soxr
import torch
from transformers import PreTrainedTokenizerBase

from mmpt.data.token_documents import Piece
from mmpt.data.token_documents import in_turn as cut_in_turn
from mmpt.document import Speech, Text
from mmpt.inference.events import Assembler, AudioDelta
from mmpt.media import decode_speech
from mmpt.results import Figure, gather
from mmpt.scripts import main_guard, script_parser
from mmpt.tokenizers.figures import NO_IMAGES
from mmpt.tokenizers.multimodal import MultimodalTokenizer
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.speech.vocoder import load_vocoder
from mmpt.tokenizers.text import text_fingerprint, train_text_tokenizer
from mmpt.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
COUNT, SECONDS, PIECE = 40, 8.0, 4
"""Utterances, the most of each, and codes that come at once."""
IN_TURN = (13, 26)
"""Tokens of text, and frames of speech."""
AROUND = 0.005
"""Seconds to either side of a seam."""
STEP = 0.0025
"""Seconds between two of the short spectra, each of twice as many, of which the flux is told."""


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    for name in ("tokenizer", "vocoder", "speech"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = SpeechTokenizer.load(arguments.tokenizer)
    if str(arguments.vocoder) != "own":
        tokenizer.use_vocoder(load_vocoder(arguments.vocoder, tokenizer.config.mels))
    files = sorted(file for file in arguments.speech.rglob("*") if file.suffix in (".flac", ".wav", ".mp3"))
    chosen = files[:: max(1, len(files) // COUNT)][:COUNT]
    sounds = [decode_speech(file.read_bytes())[: int(SECONDS * 16_000)] for file in chosen]
    path = ROOT / "recipes" / "results" / "seams.json"
    text = train_text_tokenizer(["the words of an answer"], 300)
    sys.exit(0 if gather([*measured(tokenizer, sounds), *in_turn(tokenizer, text, sounds)], path) else 1)


def measured(tokenizer: SpeechTokenizer, sounds: Sequence[np.ndarray]) -> Iterator[Figure]:
    rate, step = tokenizer.sound_rate, PIECE * tokenizer.config.quantizer.depth
    wholes, streamed, cut = [], [], []
    for codes in tokenizer.encode(sounds):
        (whole,) = tokenizer.decode([codes])
        with tokenizer.speaking() as stream:
            pieces = [stream.push(codes[start : start + step]) for start in range(0, len(codes), step)]
            pieces.append(stream.finish())
        wholes.append(whole)
        streamed.append([piece for piece in pieces if len(piece)])
        cut.append([tokenizer.decode([codes[start : start + step]])[0] for start in range(0, len(codes), step)])
    yield Figure("utterances of real speech", len(wholes))
    yield Figure("seams in them", sum(len(pieces) - 1 for pieces in streamed), 500)
    yield from compared("sound in pieces", rate, wholes, streamed, bars=True)
    # A client is told 24 kHz: the resampler goes on from piece to piece too.
    heard = [list(resampled(pieces, rate)) for pieces in streamed]
    yield from compared("and at 24 kHz", 24_000, [soxr.resample(one, rate, 24_000) for one in wholes], heard, bars=True)
    yield from compared("without overlap", rate, wholes, cut, bars=False)


def in_turn(tokenizer: SpeechTokenizer, text: PreTrainedTokenizerBase, sounds: Sequence[np.ndarray]) -> Iterator[Figure]:
    """Answers that say `sounds`, by what every answer is put together by."""
    figures, fingerprint = tokenizer.figures.in_vocabulary(), text_fingerprint(text)
    vocabulary = Vocabulary(text_size=len(text), text_fingerprint=fingerprint, **NO_IMAGES, **figures)
    whole_tokenizer = MultimodalTokenizer(vocabulary, text, tokenizer, None)
    tokens, codes = IN_TURN[0], IN_TURN[1] * vocabulary.speech_codebooks
    draw, rate = np.random.default_rng(0), tokenizer.sound_rate
    wholes, streamed, apart = [], [], []
    for own in tokenizer.encode(sounds):
        written = draw.integers(0, len(text), len(own)).tolist()
        said = Piece(Speech(b"", "wav", rate, 1.0), 1.0, vocabulary.encode_speech(own))
        pieces = list(cut_in_turn([Piece(Text(""), 1.0, written), said], tokens, codes, vocabulary))
        blocks = [np.array(one.ids[1:-1]) - vocabulary.speech_offset for one in pieces if isinstance(one.part, Speech)]
        assembler = Assembler(whole_tokenizer, alternate=(tokens, codes))
        ids = [token for one in pieces for token in one.ids]
        events = [event for token in ids for event in assembler.push([token])] + list(assembler.finish())
        spoken = [event.samples for event in events if isinstance(event, AudioDelta)]
        (whole,) = tokenizer.decode([own])
        found = tokenizer.decode(blocks)
        if len(blocks) > 1:
            wholes.append(whole)
            streamed.append(np.split(np.concatenate(spoken), np.cumsum([len(one) for one in found])[:-1]))
            apart.append(found)
    yield Figure("answers in turn", len(wholes))
    yield Figure("joints in them", sum(len(found) - 1 for found in streamed), 60)
    yield from compared("in turn", rate, wholes, streamed, bars=True)
    yield from compared("in turn, each block by itself", rate, wholes, apart, bars=False)


def resampled(pieces: Sequence[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    stream = soxr.ResampleStream(rate, 24_000, 1, dtype="float32")
    for number, piece in enumerate(pieces):
        yield stream.resample_chunk(piece, last=number == len(pieces) - 1)


def compared(
    name: str, rate: int, wholes: Sequence[np.ndarray], pieces: Sequence[Sequence[np.ndarray]], bars: bool
) -> Iterator[Figure]:
    """Figures of utterances in `pieces` against each of them at once."""
    over, at, ratios, clicks = [], [], [], []
    for whole, parts in zip(wholes, pieces, strict=True):
        found = np.concatenate(parts)[: len(whole)]
        whole = whole[: len(found)]
        seams = np.cumsum([len(part) for part in parts])[:-1]
        windows = [slice(max(0, seam - int(AROUND * rate)), seam + int(AROUND * rate)) for seam in seams]
        power = np.square(whole).mean()
        over.append(decibel(np.square(found - whole).mean() / power))
        at.append(max(decibel(np.square((found - whole)[one]).mean() / power) for one in windows))
        there, elsewhere = fluxes(found, seams, rate)
        same, _ = fluxes(whole, seams, rate)
        ratios.append(there / elsewhere)
        clicks.append(there / same)
    bar = (lambda value: {"bar": value, "at_most": True}) if bars else lambda _: {}
    yield Figure(f"{name}: against the whole, dB", max(over), **bar(-40))
    yield Figure(f"{name}: at the worst seam, ±5 ms, dB", max(at), **bar(-40))
    yield Figure(f"{name}: spectral flux at seams over that of the same places in the whole", max(clicks), **bar(1.01))
    yield Figure(f"{name}: spectral flux at seams over that elsewhere, median", median(ratios), **bar(1.1))


def fluxes(samples: np.ndarray, seams: np.ndarray, rate: int) -> tuple[float, float]:
    """Mean change of the short spectrum (Hann windows of 5 ms) about seams, and about all other places that lie as they do in the
    vocoder's frames of 10 ms: within a frame the spectrum changes more here than there, seam or no seam."""
    hop = int(STEP * rate)
    spectra = torch.stft(torch.from_numpy(samples.astype(np.float32)), 2 * hop, hop, window=torch.hann_window(2 * hop),
                         center=False, return_complex=True).abs()  # fmt: skip
    change = (spectra[:, 1:] - spectra[:, :-1]).square().sum(dim=0).sqrt().numpy()
    # Step i goes from the window that begins at i · hop to the next: those that hold sample s.
    frame = rate // 100 // hop
    near = np.unique(np.concatenate([seams // hop + shift for shift in (-2, -1, 0)]))
    near = near[(near >= 0) & (near < len(change))]
    alike = np.isin(np.arange(len(change)) % frame, near % frame)
    alike[near] = False
    return float(change[near].mean()), float(change[alike].mean())


def decibel(ratio: float) -> float:
    return float(10 * np.log10(ratio + 1e-20))


if __name__ == "__main__":
    main()
