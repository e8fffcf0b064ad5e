"""Is decoded sound understood, and whose voice is it? Judges from outside say, about speakers that nothing was trained on.

    python tokenizers/benches/reconstruction.py TOKENIZER LIBRISPEECH LISTENER [--each N] [--pictures FOLDER]

TOKENIZER is the folder of one with a decoder, LIBRISPEECH a folder in LibriSpeech's layout, LISTENER a recogniser of transformers
such as openai/whisper-base. Of each speaker the first N utterances (by default all) are judged as they are, after their log-mel
and the vocoder alone, decoded from codes in the voice of another utterance of the speaker, and in the default voice. Needs
`pip install mmpt[judges]`. Writes tokenizers/results/reconstruction.json, or reconstruction_N_books.json of N books of codes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from mmpt.data.hearing.recogniser import ListenerConfig, recognise
from mmpt.data.lost import Lost
from mmpt.data.sources.librispeech import LibriSpeech
from mmpt.document import Speech
from mmpt.evaluation.metrics.intervals import Measure, mean_measure, measure
from mmpt.evaluation.metrics.judges import dnsmos, voices
from mmpt.evaluation.metrics.recognition import errors
from mmpt.evaluation.metrics.speech_tokenizer import mean_stoi
from mmpt.evaluation.pages.plots import spectrogram_plot
from mmpt.media import decode_speech, resampled
from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser
from mmpt.tokenizers.speech.features import log_mel
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

RESULTS = Path(__file__).resolve().parent.parent / "results"
ORIGINAL, VOCODED, PROMPTED, DEFAULT = "original", "log-mel vocoded", "decoded, prompted voice", "decoded, default voice"
PICTURED = 3


class Utterance(NamedTuple):
    """What is said, and another utterance of the same speaker, both float32 [samples] at 16 kHz."""

    samples: np.ndarray
    text: str
    prompt: np.ndarray


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("tokenizer", type=Path, metavar="TOKENIZER")
    parser.add_argument("librispeech", metavar="LIBRISPEECH")
    parser.add_argument("listener", metavar="LISTENER")
    parser.add_argument("--each", type=int, help="utterances of each speaker, by default all")
    parser.add_argument("--pictures", type=Path, help="folder for spectrograms")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = SpeechTokenizer.load(arguments.tokenizer)
    chosen = utterances(arguments.librispeech, arguments.each)
    sounds = decoded(tokenizer, chosen)
    if arguments.pictures:
        draw(sounds, arguments.pictures)
    books = tokenizer.config.quantizer.depth
    figures = [Figure("utterances", len(chosen)), Figure("codes a second", tokenizer.rate)]
    figures.append(Figure("bits/s", tokenizer.figures.bits))
    figures += judged(sounds, [one.text for one in chosen], ListenerConfig(model=arguments.listener))
    figures.append(Figure("in a stream - whole, largest difference", seams(tokenizer, chosen[0]), 1e-3, at_most=True))
    name = f"reconstruction_{books}_books.json" if books > 1 else "reconstruction.json"
    sys.exit(0 if report(figures, RESULTS / name, ("speechmos", "resemblyzer")) else 1)


def utterances(folder: str, each: int | None) -> list[Utterance]:
    """The first `each` of each speaker, whose prompt is the next one of the speaker, and of the last the first."""
    speakers: dict[str, list[tuple[np.ndarray, str]]] = {}
    for document in LibriSpeech(folder=folder).documents():
        if not isinstance(document, Lost):
            spoken = [part for part in document.parts if isinstance(part, Speech)]
            speakers.setdefault(document.meta["voice"], []).extend((decode_speech(part.data), part.text) for part in spoken)
    found = []
    for pairs in speakers.values():
        prompts = [samples for samples, _ in [*pairs[1:], pairs[0]]]
        found += [Utterance(*pair, prompt) for pair, prompt in zip(pairs[:each], prompts, strict=False)]
    return found


def decoded(tokenizer: SpeechTokenizer, chosen: Sequence[Utterance]) -> dict[str, list[np.ndarray]]:
    """What is judged, by name, at 16 kHz."""
    originals, rate = [one.samples for one in chosen], tokenizer.sample_rate
    codes = tokenizer.encode(originals)
    mels = [log_mel(torch.from_numpy(samples), tokenizer.config.mels, -(-len(samples) // 160)) for samples in originals]
    found = {
        VOCODED: [tokenizer.speaker.waveform(mel).numpy() for mel in mels],
        PROMPTED: [tokenizer.decode([row], tokenizer.voice(one.prompt))[0] for row, one in zip(codes, chosen, strict=True)],
        DEFAULT: [tokenizer.decode([row])[0] for row in codes],
    }
    heard = {
        name: [resampled(sound, tokenizer.sound_rate, rate)[: len(one)] for sound, one in zip(sounds, originals, strict=True)]
        for name, sounds in found.items()
    }
    return {ORIGINAL: originals, **heard}


def judged(sounds: dict[str, list[np.ndarray]], texts: list[str], listener: ListenerConfig) -> list[Figure]:
    """Word errors, DNSMOS, STOI and similarity of voices with the originals, of each; and the bars."""
    originals = sounds[ORIGINAL]
    known = voices(originals)
    wrong, alike, figures = {}, {}, []
    for name, heard in sounds.items():
        read = [errors(text, said) for text, said in zip(texts, recognise(listener, heard), strict=True)]
        wrong[name] = np.array([(one.word_errors, one.words) for one in read], dtype=np.float64)
        alike[name] = (known * voices(heard)).sum(axis=1)
        figures += told(f"{name}: WER", measure("WER", len(texts), lambda n, of=wrong[name]: _rate(of[n]), "less"))
        figures += told(f"{name}: DNSMOS", mean_measure("DNSMOS", dnsmos(heard)))
        if name != ORIGINAL:
            figures += told(f"{name}: speaker similarity", mean_measure("similarity", alike[name].tolist()))
            figures.append(Figure(f"{name}: STOI", mean_stoi(originals, heard, 16_000)))
    ratio = _rate(wrong[PROMPTED]) / max(_rate(wrong[VOCODED]), 1e-9)
    gained = mean_measure("gain", (alike[PROMPTED] - alike[DEFAULT]).tolist())
    return [
        *figures,
        Figure("WER, prompted voice / log-mel vocoded", ratio, 2.0, at_most=True),
        Figure("similarity, prompted - default voice", gained.value),
        Figure("similarity, prompted - default voice, low", gained.low, 0.0),
    ]


def told(name: str, found: Measure) -> list[Figure]:
    """A figure and its 95 % interval."""
    return [Figure(name, found.value), Figure(f"{name}, low", found.low), Figure(f"{name}, high", found.high)]


def _rate(counts: np.ndarray) -> float:
    return float(counts[:, 0].sum() / counts[:, 1].sum())


def seams(tokenizer: SpeechTokenizer, one: Utterance) -> float:
    """Largest difference of samples between sound that was decoded in pieces of 400 ms and in one go."""
    (codes,), voice = tokenizer.encode([one.samples]), tokenizer.voice(one.prompt)
    whole, step = tokenizer.decode([codes], voice)[0], max(1, round(0.4 * tokenizer.rate))
    with tokenizer.speaking(voice) as stream:
        pieces = [stream.push(codes[start : start + step]) for start in range(0, len(codes), step)]
        pieces.append(stream.finish())
    return float(np.abs(np.concatenate(pieces) - whole).max())


def draw(sounds: dict[str, list[np.ndarray]], folder: Path) -> None:
    """Spectrograms of the first few utterances, each as it is judged."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(min(PICTURED, len(sounds[ORIGINAL]))):
        mels = [log_mel(torch.from_numpy(heard[number]), 80, len(heard[number]) // 160).numpy() for heard in sounds.values()]
        (folder / f"{number}.png").write_bytes(spectrogram_plot(mels, list(sounds)))


if __name__ == "__main__":
    main()
