"""Measure a tokenizer: python tokenizers/evaluate.py RUN SHARDS [--page FILE] [--limit N] [--listener MODEL] [--judges]

RUN is what tokenizers/train.py wrote, or the tokenizer's own folder. Prints the figures as JSON. The page (by default
evaluation.html in RUN) shows, of speech, spectrograms, audio before and after, and how often each code was used; of pictures,
what is drawn from ever more of their codes, and which others share them. Decoded sound is read by --listener, a recogniser of
transformers, or by --recognizer, another speech tokenizer, or else by the tokenizer itself, which says little; --judges adds
DNSMOS, speaker similarity and PESQ (`pip install mmpt[judges]`). Of pictures, --trained-on says what it learned from: doing
without a tokenizer, by the nearest of those pictures, is a floor;
--renderer draws by another than the decoder. Gates say whether it is of use: exit code 1 where one is short.
"""

import argparse
import json
import sys
from pathlib import Path

from mmpt.config import load_config
from mmpt.results import lines
from mmpt.scripts import main_guard, script_parser
from mmpt.tokenizers.image.gates import Gates
from mmpt.tokenizers.image.renderers import RENDERER_HELP, chosen_renderer
from mmpt.tokenizers.kind import tokenizer_kind
from mmpt.tokenizers.speech.config import SoundGates

BARS = [name for name in SoundGates.model_fields if name != "listener"]


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="what tokenizers/train.py wrote")
    parser.add_argument("shards", type=Path, metavar="SHARDS", help="a set of document shards")
    parser.add_argument("--page", type=Path, help="the page to write, by default evaluation.html in RUN")
    parser.add_argument("--limit", type=int, help="utterances or pictures, from the first; by default all")
    parser.add_argument("--recognizer", type=Path, help="a speech tokenizer that reads the decoded sound")
    parser.add_argument("--listener", help="a recogniser that reads the decoded sound, such as openai/whisper-base")
    parser.add_argument("--judges", action="store_true", help="of speech: DNSMOS, speaker similarity, PESQ")
    for name in BARS:
        what = "most" if name == "reconstruction_wer" else "least"
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, help=f"{what} {name} of decoded sound")
    parser.add_argument("--trained-on", type=Path, nargs="+", default=[], help="of pictures: shards it learned from, for floors")
    parser.add_argument("--gates", type=Path, metavar="YAML", help="of pictures: bars as `gates` in a specification has them")
    parser.add_argument("--renderer", metavar="YAML", help=RENDERER_HELP.replace("the tokenizer's)", "the decoder)"))
    parser.add_argument("--used", type=float, help="least share of codes in use")
    parser.add_argument("--entropy", type=float, help="least entropy of the codes")
    parser.add_argument("--gap", type=float, help="most points of R@mean below embeddings")
    arguments = parser.parse_args()
    folder = arguments.run / "tokenizer" if (arguments.run / "tokenizer").is_dir() else arguments.run
    page = arguments.page or arguments.run / "evaluation.html"
    if tokenizer_kind(folder) == "image":
        sys.exit(0 if of_pictures(arguments, page) else 1)
    sys.exit(0 if of_speech(arguments, page) else 1)


def of_speech(arguments: argparse.Namespace, page: Path) -> bool:
    from mmpt.evaluation.metrics.judges import JUDGES
    from mmpt.evaluation.metrics.speech_tokenizer import sound_gates
    from mmpt.evaluation.pages.speech import evaluate_speech_run
    from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer

    recognizer = SpeechTokenizer.load(arguments.recognizer) if arguments.recognizer else None
    bars = SoundGates(listener=arguments.listener, **{name: getattr(arguments, name) for name in BARS})
    judges = list(JUDGES) if arguments.judges else []
    found = evaluate_speech_run(arguments.run, arguments.shards, page, bars, arguments.limit, judges, recognizer)
    print(json.dumps(found.figures, indent=2))
    gates = sound_gates(found.figures, bars)
    print("\n".join(lines(gates)), file=sys.stderr)
    return all(gate.ok for gate in gates)


def of_pictures(arguments: argparse.Namespace, page: Path) -> bool:
    from mmpt.evaluation.metrics.image_gates import gate_figures
    from mmpt.evaluation.pages.image import evaluate_image_run

    bars = load_config(arguments.gates, Gates) if arguments.gates else Gates()
    told = {name: value for name in ("used", "entropy", "gap") if (value := getattr(arguments, name)) is not None}
    bars = bars.model_copy(update=told)
    drawn_by = chosen_renderer(arguments.renderer)
    asked = {"limit": arguments.limit, "trained_on": arguments.trained_on, "renderer": drawn_by}
    found = evaluate_image_run(arguments.run, arguments.shards, page, bars, **asked)
    print(json.dumps({**found.figures, "judge": found.judge}, indent=2))
    gates = gate_figures(found.figures, bars, found.judge)
    print("\n".join(lines(gates)), file=sys.stderr)
    return all(gate.ok for gate in gates)


if __name__ == "__main__":
    main()
