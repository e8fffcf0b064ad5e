"""Measure a speech tokenizer: python tokenizers/evaluate.py RUN SHARDS [--page FILE] [--recognizer TOKENIZER] [--limit N]

RUN is what tokenizers/train.py wrote, or the tokenizer's own folder. Prints the figures as JSON; the page (by default
evaluation.html in RUN) shows spectrograms, audio before and after, and how often each code was used. With --recognizer, another
tokenizer reads the decoded sound.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

from mmpt.data.shards.read import DocumentShards
from mmpt.document import Speech
from mmpt.errors import DataError
from mmpt.evaluation.speech_page import write_speech_page
from mmpt.evaluation.speech_tokenizer import evaluate_speech_tokenizer
from mmpt.media import decode_speech
from mmpt.scripts import main_guard
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--page", type=Path)
    parser.add_argument("--recognizer", type=Path)
    parser.add_argument("--limit", type=int, help="utterances, from the first; by default all")
    arguments = parser.parse_args()
    folder = arguments.run / "tokenizer" if (arguments.run / "tokenizer").is_dir() else arguments.run
    tokenizer = SpeechTokenizer.load(folder)
    recognizer = SpeechTokenizer.load(arguments.recognizer) if arguments.recognizer else None
    stream = (part for document in DocumentShards(arguments.shards) for part in document.parts)
    spoken = list(islice((part for part in stream if isinstance(part, Speech) and part.text.strip()), arguments.limit))
    if not spoken:
        raise DataError(f"{arguments.shards}: no utterance with a transcript")
    waveforms, texts = [decode_speech(part.data, tokenizer.sample_rate) for part in spoken], [part.text for part in spoken]
    found = evaluate_speech_tokenizer(tokenizer, waveforms, texts, recognizer)
    metrics = [arguments.run / stage / "metrics.jsonl" for stage in ("recognition", "speaking")]
    write_speech_page(arguments.page or arguments.run / "evaluation.html", arguments.run.name, waveforms, texts, found, metrics)
    print(json.dumps(found.figures, indent=2))


if __name__ == "__main__":
    main()
