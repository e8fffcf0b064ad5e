"""Hold the figures of finished quickstart runs against their bars: python recipes/bench.py [RUN ...]

Without arguments, runs/quickstart and, where it exists, runs/quickstart_real. Writes recipes/results/NAME.json and exits 1
when a figure is short.
"""

import sys
from pathlib import Path

from mmpt.errors import DataError
from mmpt.results import Figure, report
from mmpt.scripts import main_guard, script_parser
from mmpt.storage import read_json

ROOT = Path(__file__).resolve().parent.parent
# name: (bar, whether the bar is the largest value that will do)
BARS = {
    "quickstart": {
        "seconds": (480, True),
        "peak_rss_gib": (6, True),
        "speech_to_text_wer": (0.15, True),
        "text_to_speech_wer": (0.25, True),
        "image_to_text_accuracy": (0.80, False),
        "text_to_image_accuracy": (0.60, False),
        "speech_codebook_used": (0.5, False),
        "image_codebook_used": (0.5, False),
    },
    "quickstart_real": {
        "seconds": (2400, True),
        "speech_to_text_wer": (0.20, True),
        "image_to_text_accuracy": (0.65, False),
    },
}


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders of the quickstart")
    finished = [Path("runs") / name for name in BARS if (Path("runs") / name / "metrics.json").exists()]
    runs = parser.parse_args().runs or finished
    if not runs:
        raise DataError("runs/quickstart/metrics.json: no such file; run recipes/quickstart.py first")
    ok = True
    for run in runs:
        metrics = read_json(run / "metrics.json")
        bars = BARS.get(run.name, {})
        values = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
        figures = [Figure(name, value, *bars.get(name, (None,))) for name, value in values.items()]
        ok &= report(figures, ROOT / "recipes" / "results" / f"{run.name}.json")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
