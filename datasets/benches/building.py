"""Building shards from Markdown tutorials with pictures: is everything in place, how fast, and what a second process gives.

    python datasets/benches/building.py [../shared/data/guides]

The speed is that of 192 copies of the tutorials, in turns with one and two processes, the median of five pairs. Writes
datasets/results/building.json.
"""

import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote

from mmpt.config import load_config
from mmpt.data.build import BuildConfig, build
from mmpt.data.engine.run import RunConfig
from mmpt.data.lost import LOST_FILE, from_lines
from mmpt.data.shards.read import DocumentShards
from mmpt.document import Image
from mmpt.errors import ConfigError
from mmpt.results import Figure, report
from mmpt.scripts import main_guard

COPIES, PAIRS = 192, 5
ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "building.json"


@main_guard
def main() -> None:
    guides = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared" / "data" / "guides")
    if not guides.is_dir():
        raise ConfigError(f"{guides}: no such folder")
    with tempfile.TemporaryDirectory() as temporary:
        figures = placement(guides, Path(temporary) / "set")
        copies = Path(temporary) / "copies"
        for number in range(COPIES):
            shutil.copytree(guides, copies / f"copy-{number:03d}")
        seconds: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(PAIRS):
            for processes, found in seconds.items():
                out = Path(temporary) / "out"
                began = time.perf_counter()
                summary = build(configuration(copies), out, RunConfig(processes=processes))
                found.append(time.perf_counter() - began)
                shutil.rmtree(out)
    gains = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    alone = statistics.median(seconds[1])
    figures += [
        Figure("documents", summary.documents),
        Figure("documents/s, one process", summary.documents / alone),
        Figure("MB/s, one process", summary.bytes / 1e6 / alone),
        Figure("gain from 1 to 2 processes", statistics.median(gains), 1.7),
    ]
    sys.exit(0 if report(figures, RESULT) else 1)


def configuration(folder: Path) -> BuildConfig:
    overrides = [f"sources=[{{kind: markdown, folder: {folder}, files: '.*/step_\\d+\\.md', drop_lines: ['--- /?[a-z-]+ ---']}}]"]
    return load_config(ROOT / "datasets" / "specs" / "guides.yaml", BuildConfig, overrides)


def placement(guides: Path, out: Path) -> list[Figure]:
    """Pictures that exist and are where a plain search of the files finds them, and the missing ones that are reported."""
    build(configuration(guides), out)
    placed = existing = 0
    missing = set()
    for document in DocumentShards(out):
        path = guides / document.meta["path"]
        targets = [unquote(target) for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))]
        expected = [(path.parent / target).read_bytes() for target in targets if (path.parent / target).is_file()]
        missing |= {target for target in targets if not (path.parent / target).is_file()}
        found = [part.data for part in document.parts if isinstance(part, Image)]
        existing += len(expected)
        placed += sum(one == other for one, other in zip(found, expected, strict=False)) if len(found) == len(expected) else 0
    reported = {one.item.rpartition(": ")[2] for one in from_lines((out / LOST_FILE).read_bytes())}
    return [
        Figure("pictures that exist", existing),
        Figure("share in place and in order", placed / existing, 1.0),
        Figure("missing pictures (by name)", len(missing)),
        Figure("missing pictures reported", len(reported & missing) / max(1, len(missing)), 1.0),
    ]


if __name__ == "__main__":
    main()
