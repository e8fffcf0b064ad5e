"""The text-to-token model: what it says of digit strings that it never saw, decoded and recognised, and how fast it says it.

    python tokenizers/benches/text_to_codes.py TOKENIZER [RUNS]

TOKENIZER is a speech tokenizer of spoken digits; the model learns its codes of the training strings. 200 strings of 3 to 7 digits
that no training string equals are spoken, decoded and read by TOKENIZER. Writes tokenizers/results/text_to_codes.json.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import digits
import numpy as np
import torch

from mmpt.evaluation.metrics.recognition import word_error_rate
from mmpt.results import Figure, report
from mmpt.storage import write_bytes
from mmpt.tokenizers.speech.text_to_codes import TextToCodes
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

STEPS, STRINGS = 2000, 200


def main() -> None:
    folder, runs = Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else "runs/text_to_codes")
    torch.set_num_threads(1)
    data = digits.strings(runs / "train", digits.TRAIN, 6000, 1, seed=0)
    text = digits.text_tokenizer(runs / "text_tokenizer")
    spec = {
        "kind": "text_to_codes",
        "data": [str(data)],
        "speech_tokenizer": str(folder),
        "text_tokenizer": str(text),
        "fit": {
            "steps": STEPS,
            "batch_size": 16,
            "optimizer": {"learning_rate": 0.002},
            "schedule": {"warmup_steps": 200},
            "run": {"log_every": 50},
        },
        "model": {"joined": 0.5},
    }
    if not (runs / "text_to_codes").exists():
        write_bytes(runs / "spec.yaml", json.dumps(spec, indent=1).encode())
        command = [sys.executable, str(digits.ROOT / "tokenizers" / "train.py"), str(runs / "spec.yaml"), str(runs)]
        subprocess.run(command, check=True)
    model, tokenizer = TextToCodes.load(runs / "text_to_codes"), SpeechTokenizer.load(folder)
    texts = unseen({text for text in digits.utterances(data)[1]})
    rates = {}
    for batch in (1, 64):
        chosen = texts if batch > 1 else texts[:20]
        began = time.perf_counter()
        spoken = model.speak(chosen, batch=batch)
        rates[batch] = sum(len(one.codes) for one in spoken) / (time.perf_counter() - began)
    codes = [one.codes if len(one.codes) else np.zeros(1, dtype=np.int64) for one in spoken]
    heard = tokenizer.recognize(tokenizer.decode(codes))
    figures = [
        Figure("WER of the codes, read at once", word_error_rate(texts, tokenizer.transcribe(codes))),
        Figure("WER of the codes, decoded and recognised", word_error_rate(texts, heard), 0.1, at_most=True),
        Figure("without an end within the limit", float(sum(not one.finished for one in spoken))),
        Figure("codes/s on one core, one text at a time", rates[1]),
        Figure("codes/s on one core, 64 texts at a time", rates[64]),
    ]
    sys.exit(0 if report(figures, digits.RESULTS / "text_to_codes.json") else 1)


def unseen(known: set[str]) -> list[str]:
    """Strings of 3 to 7 digits' words that are not in `known`."""
    random, found = np.random.default_rng(7), []
    while len(found) < STRINGS:
        text = " ".join(random.choice(digits.WORDS, random.integers(3, 8)))
        if text not in known:
            found.append(text)
    return found


if __name__ == "__main__":
    main()
