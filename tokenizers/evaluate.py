"""Measure a tokenizer: python tokenizers/evaluate.py RUN SHARDS [--page FILE] [--limit N] [--recognizer TOKENIZER]

RUN is what tokenizers/train.py wrote, or the tokenizer's own folder. Prints the figures as JSON. The page (by default
evaluation.html in RUN) shows, of speech, spectrograms, audio before and after, and how often each code was used; of pictures,
what is drawn from ever more of their codes, and which others share them. With --recognizer, another speech tokenizer reads the
decoded sound. Of an image tokenizer, gates say whether it is of use (`--used`, `--entropy`, `--gap`): exit code 1 where one is
short.
"""

import argparse
import json
import sys
from itertools import islice
from pathlib import Path

from mmpt.data.shards.read import DocumentShards
from mmpt.document import Speech
from mmpt.errors import DataError
from mmpt.media import decode_speech
from mmpt.results import lines
from mmpt.scripts import main_guard, script_parser
from mmpt.tokenizers.image.config import Gates
from mmpt.tokenizers.kind import tokenizer_kind


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="what tokenizers/train.py wrote")
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="a set of document shards")
    parser.add_argument("--page", type=Path, help="the page to write, by default evaluation.html in RUN")
    parser.add_argument("--limit", type=int, help="utterances or pictures, from the first; by default all")
    parser.add_argument("--recognizer", type=Path, help="a speech tokenizer that reads the decoded sound")
    gates = Gates()
    parser.add_argument("--used", type=float, default=gates.used, help="least share of codes in use")
    parser.add_argument("--entropy", type=float, default=gates.entropy, help="least entropy of the codes")
    parser.add_argument("--gap", type=float, default=gates.gap, help="most points of R@mean below embeddings")
    arguments = parser.parse_args()
    folder = arguments.run / "tokenizer" if (arguments.run / "tokenizer").is_dir() else arguments.run
    page = arguments.page or arguments.run / "evaluation.html"
    if tokenizer_kind(folder) == "image":
        sys.exit(0 if of_pictures(arguments, page) else 1)
    of_speech(arguments, folder, page)


def of_speech(arguments: argparse.Namespace, folder: Path, page: Path) -> None:
    from mmpt.evaluation.metrics.speech_tokenizer import evaluate_speech_tokenizer
    from mmpt.evaluation.pages.speech import write_speech_page
    from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

    tokenizer = SpeechTokenizer.load(folder)
    recognizer = SpeechTokenizer.load(arguments.recognizer) if arguments.recognizer else None
    stream = (part for document in DocumentShards(arguments.shards) for part in document.parts)
    spoken = list(islice((part for part in stream if isinstance(part, Speech) and part.text.strip()), arguments.limit))
    if not spoken:
        raise DataError(f"{arguments.shards}: no utterance with a transcript")
    waveforms, texts = [decode_speech(part.data, tokenizer.sample_rate) for part in spoken], [part.text for part in spoken]
    found = evaluate_speech_tokenizer(tokenizer, waveforms, texts, recognizer)
    metrics = [arguments.run / stage / "metrics.jsonl" for stage in ("recognition", "speaking")]
    write_speech_page(page, arguments.run.name, waveforms, texts, found, metrics)
    print(json.dumps(found.figures, indent=2))


def of_pictures(arguments: argparse.Namespace, page: Path) -> bool:
    from mmpt.evaluation.metrics.image_tokenizer import gate_figures
    from mmpt.evaluation.pages.image import evaluate_image_run

    found = evaluate_image_run(arguments.run, arguments.shards, page, arguments.limit)
    print(json.dumps(found.figures, indent=2))
    gates = gate_figures(found.figures, Gates(used=arguments.used, entropy=arguments.entropy, gap=arguments.gap))
    print("\n".join(lines(gates)), file=sys.stderr)
    return all(gate.ok for gate in gates)


if __name__ == "__main__":
    main()
