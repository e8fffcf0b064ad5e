"""Does a Whisper read the same here as in transformers, and what do codes of its states keep of its reading?

    python tokenizers/benches/whisper_base.py parity CHECKPOINT LIBRISPEECH [--plain N]
    python tokenizers/benches/whisper_base.py codes CHECKPOINT LIBRISPEECH TOKENIZER [--aligned FOLDER]
    python tokenizers/benches/whisper_base.py long CHECKPOINT LIBRISPEECH [TOKENIZER]

CHECKPOINT: a folder of Whisper base; LIBRISPEECH: a folder in that corpus' layout, such as test-clean; TOKENIZER: what
tokenizers/speech_whisper_base.yaml trains. `parity`: the tokenizer's path without pooling and quantiser against plain greedy
`generate` of transformers (of N utterances, spread over all; by default of each). `codes`: word error rate through the codes
against the same Whisper's, the codes in use of each book, and what the first says of phones (TextGrids of FOLDER). `long`:
utterances one after the other in recordings of at least 67 and 517 s, read whole through the codes, or without TOKENIZER by
Whisper itself, against the same utterances one by one. Word error rates are of texts normalised as Whisper's authors do,
intervals by the bootstrap over utterances. Writes tokenizers/results/whisper_*.json.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import jiwer
import numpy as np
import soundfile
import torch
from phones import of_codes, read_aligned
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from mmpt.evaluation.metrics.intervals import bootstrap
from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser
from mmpt.tokenizers.codebook_health import codebook_use
from mmpt.tokenizers.speech.config import SAMPLE_RATE, SpeechConfig
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.text import load_text_tokenizer

RESULTS = Path(__file__).parent.parent / "results"
PROMPT = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")
RATIOS = {25.0: 1.5, 12.5: 2.0}
"""Codes a second → how many times Whisper's own word error rate is allowed through them."""
WINDOW = 30 * SAMPLE_RATE
LENGTHS = {67.0: 8, 517.0: 1}
"""Seconds of a recording → how many of them at most."""
NORMAL = EnglishTextNormalizer({})


class Spoken(NamedTuple):
    """An utterance: its name SPEAKER-CHAPTER-NUMBER, float32 samples at 16 kHz, and what is said."""

    name: str
    samples: np.ndarray
    text: str


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("part", choices=("parity", "codes", "long"))
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    parser.add_argument("librispeech", type=Path, metavar="LIBRISPEECH")
    parser.add_argument("tokenizer", type=Path, nargs="?", metavar="TOKENIZER")
    parser.add_argument("--every", type=int, default=1, help="every so many utterances alone, of parity and codes")
    parser.add_argument("--plain", type=int, help="utterances that plain transformers reads as well")
    parser.add_argument("--aligned", type=Path, help="utterances with TextGrids of their phones")
    parser.add_argument("--work", type=Path, default=Path("runs/whisper_base"), help="keeps Whisper's own transcripts")
    arguments = parser.parse_args()
    if arguments.part == "codes" and not arguments.tokenizer:
        parser.error("codes: expected a TOKENIZER")
    torch.set_num_threads(1)
    spoken = utterances(arguments.librispeech)[:: 1 if arguments.part == "long" else arguments.every]
    own = [] if arguments.part == "long" else whispers_own(arguments, spoken)
    if arguments.part == "parity":
        figures, name = parity(arguments, spoken, own), "parity"
    else:
        given = arguments.tokenizer
        tokenizer = SpeechTokenizer.load(given) if given else unquantised(arguments.checkpoint)
        name = f"{arguments.part}_{called(tokenizer)}" if given else arguments.part
        measure = codes if arguments.part == "codes" else long
        figures = measure(arguments, spoken, own, tokenizer)
    sys.exit(0 if report(figures, RESULTS / f"whisper_{name}.json") else 1)


def utterances(folder: Path) -> list[Spoken]:
    """All of a corpus in LibriSpeech's layout, by name."""
    found = []
    for file in sorted(folder.rglob("*.trans.txt")):
        for line in file.read_text().splitlines():
            name, _, text = line.partition(" ")
            samples, _ = soundfile.read(file.parent / f"{name}.flac", dtype="float32")
            found.append(Spoken(name, samples, text))
    return found


def whispers_own(arguments: argparse.Namespace, spoken: Sequence[Spoken]) -> list[str]:
    """What the checkpoint reads by the tokenizer's path, without pooling and quantiser."""

    def make() -> list[str]:
        model = unquantised(arguments.checkpoint)
        return read_all(spoken, lambda one: model.recognize([one.samples])[0])

    return kept(arguments, "own", spoken, make)


def unquantised(checkpoint: Path) -> SpeechTokenizer:
    """Whisper's encoder and text decoder as they are."""
    encoder = {"kind": "whisper", "checkpoint": str(checkpoint), "layer": 6, "overlap": 0, "prompt": PROMPT}
    config = SpeechConfig.model_validate(
        {"quantizer": {"kind": "none", "dim": 512}, "encoder": encoder, "pool": 1, "window": 1500, "mel_weight": 0}
    )
    text = load_text_tokenizer(str(checkpoint))
    config = config.encoder.settled(config, text)
    model = SpeechTokenizer(config, text)
    config.encoder.take_weights(model.encoder, model.reader)
    return model.eval()


def parity(arguments: argparse.Namespace, spoken: list[Spoken], own: list[str]) -> list[Figure]:
    step = 1 if arguments.plain is None else max(1, len(spoken) // arguments.plain)
    chosen = range(0, len(spoken), step)
    some = [spoken[number] for number in chosen]
    plain = kept(arguments, "plain", some, lambda: by_transformers(arguments.checkpoint, some))
    # What lies beyond the 30 s of Whisper's window, plain generation leaves out.
    fits = [(text, number) for text, number in zip(plain, chosen, strict=True) if len(spoken[number].samples) <= WINDOW]
    same = [text.strip() == own[number].strip() for text, number in fits]
    errors = word_errors(spoken, own)
    low, high = bootstrap(len(errors), lambda drawn: rate(errors[drawn]))
    return [
        Figure("utterances", len(spoken)),
        Figure("WER", rate(errors), 0.06, at_most=True),
        Figure("WER, low", low),
        Figure("WER, high", high),
        Figure("utterances of up to 30 s read by plain transformers too", len(same)),
        Figure("share with the same transcript", float(np.mean(same)), 0.99),
    ]


def by_transformers(checkpoint: Path, spoken: Sequence[Spoken]) -> list[str]:
    """Plain greedy `generate` on the features of 30 s."""
    from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()
    text, extract = AutoTokenizer.from_pretrained(checkpoint), WhisperFeatureExtractor.from_pretrained(checkpoint)
    prompt = torch.tensor([text.convert_tokens_to_ids(list(PROMPT))])

    def read(one: Spoken) -> str:
        features = extract(one.samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        made = model.generate(features, decoder_input_ids=prompt, num_beams=1, do_sample=False, max_new_tokens=440)
        ids = cast(torch.Tensor, made)  # nothing beside them is asked for
        return text.decode(ids[0], skip_special_tokens=True)

    with torch.inference_mode():
        return read_all(spoken, read)


def codes(arguments: argparse.Namespace, spoken: list[Spoken], own: list[str], tokenizer: SpeechTokenizer) -> list[Figure]:
    found = tokenizer.encode([one.samples for one in spoken])
    read = tokenizer.transcribe(found)
    errors, without = word_errors(spoken, read), word_errors(spoken, own)
    ratio = bootstrap(len(errors), lambda drawn: rate(errors[drawn]) / rate(without[drawn]))
    wer = bootstrap(len(errors), lambda drawn: rate(errors[drawn]))
    books = tokenizer.config.quantizer.depth
    frames = [tokenizer.vectors(row, number).reshape(-1, books) for number, row in enumerate(found)]
    uses = use_of_books(np.concatenate(frames), tokenizer.codes // books)
    second = tokenizer.config.vector_rate
    figures = [
        Figure("utterances", len(spoken)),
        Figure("vectors a second", second),
        Figure("codebooks", books),
        Figure("codes a second", tokenizer.rate),
        Figure("codes of a book", tokenizer.codes // books),
        Figure("bits/s", tokenizer.figures.bits),
        Figure("bits/s by the codes' frequencies", second * sum(float(np.log2(use["perplexity"])) for use in uses)),
        Figure("share of codes used", float(np.mean([use["used"] for use in uses])), 0.6),
        *(Figure(f"share of codes used, book {book}", use["used"]) for book, use in enumerate(uses, 1) if books > 1),
        Figure("WER without codes", rate(without)),
        Figure("WER through codes", rate(errors)),
        Figure("WER through codes, low", wer[0]),
        Figure("WER through codes, high", wer[1]),
        Figure("WER through codes / without", rate(errors) / rate(without), RATIOS.get(second), at_most=True),
        Figure("the same, low", ratio[0]),
        Figure("the same, high", ratio[1]),
    ]
    if arguments.aligned:
        aligned = read_aligned(arguments.aligned)
        heard = tokenizer.encode([one.samples for one in aligned])
        first = [tokenizer.vectors(row, number).reshape(-1, books)[:, 0] for number, row in enumerate(heard)]
        of = "aligned, first book" if books > 1 else "aligned"
        figures += [Figure(f"{of}: {name}", value) for name, value in of_codes(first, aligned, second).items()]
    return figures


def called(tokenizer: SpeechTokenizer) -> str:
    """Of the name of a result: how many vectors a second, and how many books."""
    books = tokenizer.config.quantizer.depth
    return f"{tokenizer.config.vector_rate:g}hz" + (f"_{books}_books" if books > 1 else "")


def use_of_books(frames: np.ndarray, size: int) -> list[dict[str, float]]:
    """The health of each codebook over `frames` [n, books] of codes."""
    return [codebook_use(torch.from_numpy(column % size), size) for column in frames.T]


def long(arguments: argparse.Namespace, spoken: list[Spoken], own: list[str], tokenizer: SpeechTokenizer) -> list[Figure]:
    figures = []
    for seconds, most in LENGTHS.items():
        groups = joined(spoken, seconds)[:most]
        chosen = [spoken[number] for group in groups for number in group]
        short = read_by(tokenizer, [one.samples for one in chosen])
        recordings = [np.concatenate([spoken[number].samples for number in group]) for group in groups]
        texts = [" ".join(spoken[number].text for number in group) for group in groups]
        whole = [Spoken("", samples, text) for samples, text in zip(recordings, texts, strict=True)]
        one_by_one = rate(word_errors(chosen, short))
        figures += [
            Figure(f"recordings of {seconds:g} s", len(groups)),
            Figure(f"WER of their utterances one by one, {seconds:g} s", one_by_one),
        ]
        # Of the sound, pauses are heard before codes are made; of codes alone, where they are cut is guessed from them.
        ways: dict[str, Callable[[list[np.ndarray]], list[str]]] = {"read whole": tokenizer.recognize}
        if tokenizer.codes:
            ways["read from its codes"] = lambda some: read_by(tokenizer, some)
        for way, read in ways.items():
            found = rate(word_errors(whole, read(recordings)))
            figures += [
                Figure(f"WER {way}, {seconds:g} s", found),
                Figure(f"points more {way}, {seconds:g} s", 100 * (found - one_by_one), 2.0, at_most=True),
            ]
    return figures


def read_by(tokenizer: SpeechTokenizer, sounds: list[np.ndarray]) -> list[str]:
    return tokenizer.transcribe(tokenizer.encode(sounds)) if tokenizer.codes else tokenizer.recognize(sounds)


def joined(spoken: Sequence[Spoken], seconds: float) -> list[list[int]]:
    """Numbers of utterances that follow each other, of one speaker as far as they go, in groups of at least so many seconds."""
    groups: list[list[int]] = []
    group: list[int] = []
    for number, one in enumerate(spoken):
        if group and seconds < 100 and spoken[group[-1]].name.split("-")[0] != one.name.split("-")[0]:
            group = []
        group.append(number)
        if sum(len(spoken[n].samples) for n in group) >= seconds * SAMPLE_RATE:
            groups.append(group)
            group = []
    return groups


def word_errors(spoken: Sequence[Spoken], read: Sequence[str]) -> np.ndarray:
    """(errors, words) of each utterance, [n, 2]."""
    rows = []
    for one, text in zip(spoken, read, strict=True):
        found = jiwer.process_words([NORMAL(one.text)], [NORMAL(text)])
        rows.append(
            (found.substitutions + found.deletions + found.insertions, found.hits + found.substitutions + found.deletions)
        )
    return np.array(rows, dtype=np.float64)


def rate(errors: np.ndarray) -> float:
    return float(errors[:, 0].sum() / errors[:, 1].sum())


def kept(arguments: argparse.Namespace, name: str, spoken: Sequence[Spoken], make: Callable[[], list[str]]) -> list[str]:
    """What an earlier run with the same weights and utterances has kept, or else is made and kept."""
    of = hashlib.sha256((arguments.checkpoint / "model.safetensors").read_bytes())
    for one in spoken:
        of.update(one.name.encode() + one.samples.tobytes())
    file = arguments.work / f"{name}_{of.hexdigest()[:16]}.json"
    if not file.exists():
        texts = make()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(texts, indent=0))
    return json.loads(file.read_text())


def read_all(spoken: Sequence[Spoken], read: Callable[[Spoken], str]) -> list[str]:
    texts, told = [], time.monotonic()
    for number, one in enumerate(spoken, start=1):
        texts.append(read(one))
        if time.monotonic() - told > 60:
            told = time.monotonic()
            print(f"{number} of {len(spoken)} utterances", file=sys.stderr, flush=True)
    return texts


if __name__ == "__main__":
    main()
