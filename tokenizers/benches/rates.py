"""The table of GLM-4-Voice's paper (Zeng et al. 2024, table 1) mirrored on recordings of spoken digits.

    python tokenizers/benches/rates.py [RUNS]

Rates of 50, 25, 12.5 and 6.25 Hz, each with a codebook (EMA), with FSQ and without a quantiser, trained alike: an hour on two
cores. Finished trainings in RUNS (default runs/rates) are not repeated. Decoded sound is read by the 50 Hz network without
quantiser, which has seen no codes. Writes tokenizers/results/rates.json.
"""

import math
import sys
from pathlib import Path

import digits
import torch

from mmpt.evaluation.metrics.speech_tokenizer import evaluate_speech_tokenizer
from mmpt.results import Figure, report
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

STEPS, SPEAK = 2400, 700
QUANTIZERS = {
    "ema": lambda codes: {"kind": "ema", "codes": codes, "dim": 16},
    "fsq": lambda codes: {"kind": "fsq", "levels": [2] * int(math.log2(codes)), "dim": 16, "spread": 0.7},
    "none": lambda codes: {"kind": "none", "dim": 16},
}
RATES = {1: (50, 64), 2: (25, 64), 4: (12.5, 128), 8: (6.25, 256)}
"""pool → (codes a second, codebook); the codebook grows as the rate falls, as in the paper."""
SHOWN = ("wer", "codes_used", "entropy", "bits_per_second", "entropy_bits", "reconstruction_wer", "stoi", "mel_distance",
         "encoding_rtf", "decoding_rtf")  # fmt: skip


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/rates")
    torch.set_num_threads(1)
    data = digits.strings(runs / "train", digits.TRAIN, 6000, 1, seed=0)
    test = digits.strings(runs / "test", digits.TEST, 300, 3, seed=1)
    text = digits.text_tokenizer(runs / "text_tokenizer")
    specs = {}
    for pool in (4, 1, 2, 8):
        for kind in QUANTIZERS:
            spec = digits.specification(pool, QUANTIZERS[kind](RATES[pool][1]), [data], text, STEPS)
            if kind != "none":
                spec["speak"] = {**spec["fit"], "steps": SPEAK}
            specs[runs / f"{kind}-{RATES[pool][0]:g}"] = spec
    digits.train(specs)
    waveforms, texts = digits.utterances(test)
    reader = SpeechTokenizer.load(runs / "none-50" / "tokenizer")
    found, figures = {}, []
    for run in specs:
        tokenizer = SpeechTokenizer.load(run / "tokenizer")
        found[run.name] = evaluate_speech_tokenizer(tokenizer, waveforms, texts, reader.recognize).figures
        figures += [
            Figure(f"{run.name}: {name}", found[run.name][name], *bar(run.name, name))
            for name in SHOWN
            if name in found[run.name]
        ]
        figures.append(Figure(f"{run.name}: training, minutes", digits.training_seconds(run) / 60, 40.0, at_most=True))
    for kind in ("ema", "fsq"):
        above = 100 * (found[f"{kind}-12.5"]["wer"] - found["none-12.5"]["wer"])
        figures.append(Figure(f"{kind} at 12.5 Hz, points of WER above no quantiser", above, 2.0, at_most=True))
        ratio = found[f"{kind}-12.5"]["wer"] / max(found[f"{kind}-50"]["wer"], 1e-9)
        figures.append(Figure(f"{kind}, WER at 12.5 Hz / WER at 50 Hz", ratio, 1.5, at_most=True))
    sys.exit(0 if report(figures, digits.RESULTS / "rates.json") else 1)


def bar(run: str, figure: str) -> tuple:
    """The bar of a figure, where there is one."""
    bars = {"wer": (0.05, True), "reconstruction_wer": (0.15, True), "codes_used": (0.9 if run.startswith("fsq") else 0.6,)}
    return bars.get(figure, ()) if run.endswith("-12.5") and not run.startswith("none") else ()


if __name__ == "__main__":
    main()
