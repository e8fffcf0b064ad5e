"""Is a minute of speech read as well as the sentences in it?

    python tokenizers/benches/long_reading.py [RUNS]

The tokenizer at 12.5 Hz with a codebook of rates.py (trained here where RUNS, by default runs/rates, lacks it: ten minutes on a
core) reads held-out strings of spoken digits one by one, and recordings of about a minute that are made of the same strings of a
speaker one after the other, from sound and from codes. Writes tokenizers/results/long_reading.json.
"""

import sys
from itertools import groupby
from pathlib import Path

import digits
import numpy as np
import torch
from rates import QUANTIZERS, RATES, SPEAK, STEPS

from mmpt.data.shards.read import DocumentShards
from mmpt.evaluation.metrics.recognition import word_error_rate
from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser
from mmpt.tokenizers.speech.config import SAMPLE_RATE
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

SECONDS, PAUSE = 60.0, 0.3


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="?", default=Path("runs/rates"), help="folder of the trainings")
    runs = parser.parse_args().runs
    torch.set_num_threads(1)
    tokenizer = SpeechTokenizer.load(trained(runs) / "tokenizer")
    test = digits.strings(runs / "test", digits.TEST, 300, 3, seed=1)
    waveforms, texts = digits.utterances(test)
    speakers = [document.meta["voice"] for document in DocumentShards(test)]
    recordings, sayings = strung_together(waveforms, texts, speakers)
    short = word_error_rate(texts, tokenizer.recognize(waveforms))
    long = word_error_rate(sayings, tokenizer.recognize(recordings))
    coded = word_error_rate(sayings, tokenizer.transcribe(tokenizer.encode(recordings)))
    figures = [
        Figure("recordings", len(recordings)),
        Figure("seconds of the shortest", min(map(len, recordings)) / SAMPLE_RATE, SECONDS),
        Figure("words", sum(len(text.split()) for text in sayings)),
        Figure("WER of the strings one by one", short),
        Figure("WER of the recordings", long),
        Figure("WER of the recordings, from codes", coded),
        Figure("recordings / strings", long / max(short, 1e-9), 1.2, at_most=True),
        Figure("recordings from codes / strings", coded / max(short, 1e-9), 1.2, at_most=True),
    ]
    sys.exit(0 if report(figures, digits.RESULTS / "long_reading.json") else 1)


def trained(runs: Path) -> Path:
    """The run of rates.py at 12.5 Hz with a codebook."""
    data = digits.strings(runs / "train", digits.TRAIN, 6000, 1, seed=0)
    text = digits.text_tokenizer(runs / "text_tokenizer")
    spec = digits.specification(4, QUANTIZERS["ema"](RATES[4][1]), [data], text, STEPS)
    spec["speak"] = {**spec["fit"], "steps": SPEAK}
    digits.train({runs / "ema-12.5": spec})
    return runs / "ema-12.5"


def strung_together(waveforms: list[np.ndarray], texts: list[str], speakers: list[str]) -> tuple[list[np.ndarray], list[str]]:
    """Recordings of at least `SECONDS` of one speaker each, silence between the strings, and what is said in them."""
    recordings, sayings = [], []
    order = sorted(range(len(texts)), key=speakers.__getitem__)
    silence = np.zeros(int(PAUSE * SAMPLE_RATE), np.float32)
    for _, chosen in groupby(order, speakers.__getitem__):
        pieces, words = [], []
        for number in chosen:
            pieces += [waveforms[number], silence]
            words.append(texts[number])
            if sum(map(len, pieces)) >= SECONDS * SAMPLE_RATE:
                recordings.append(np.concatenate(pieces))
                sayings.append(" ".join(words))
                pieces, words = [], []
    return recordings, sayings


if __name__ == "__main__":
    main()
