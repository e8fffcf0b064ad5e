"""Speech of a speaker who was never heard: trained on four, tested on the fifth, each of the five in turn.

    python tokenizers/benches/speakers.py [RUNS]

At 12.5 Hz with a codebook; tested on recordings 0 to 4 of the fifth speaker in strings of 3 to 7. Finished trainings in RUNS
(default runs/speakers) are not repeated. Writes tokenizers/results/speakers.json.
"""

import sys
from pathlib import Path

import digits
import torch

from mmpt.evaluation.metrics.recognition import word_error_rate
from mmpt.results import Figure, report
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

STEPS = 2500
CHOSEN_ON = "theo"
"""The one speaker on whose other recordings the augmentation and the features' floor were chosen (docs/log.md)."""


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/speakers")
    torch.set_num_threads(1)
    text = digits.text_tokenizer(runs / "text_tokenizer")
    specs, tests = {}, {}
    for speaker in digits.SPEAKERS:
        others = [one for one in digits.SPEAKERS if one != speaker]
        data = digits.strings(runs / f"train-without-{speaker}", digits.TRAIN, 6000, 1, seed=0, speakers=others)
        tests[speaker] = digits.strings(runs / f"test-{speaker}", digits.TEST, 150, 3, seed=1, speakers=[speaker])
        quantizer = {"kind": "ema", "codes": 128, "dim": 16}
        specs[runs / f"without-{speaker}"] = digits.specification(4, quantizer, [data], text, STEPS)
    digits.train(specs)
    errors = {}
    for speaker in digits.SPEAKERS:
        waveforms, texts = digits.utterances(tests[speaker])
        read = SpeechTokenizer.load(runs / f"without-{speaker}" / "tokenizer").recognize(waveforms)
        errors[speaker] = word_error_rate(texts, read)
    figures = [Figure(f"WER of {speaker}, never heard", error) for speaker, error in errors.items()]
    others = [error for speaker, error in errors.items() if speaker != CHOSEN_ON]
    figures.append(Figure(f"mean WER without {CHOSEN_ON}, on whom settings were chosen", sum(others) / len(others)))
    figures.append(Figure("mean WER of a speaker never heard", sum(errors.values()) / len(errors), 0.25, at_most=True))
    sys.exit(0 if report(figures, digits.RESULTS / "speakers.json") else 1)


if __name__ == "__main__":
    main()
