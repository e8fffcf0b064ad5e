"""Draw kernels/results/*.json as rooflines into kernels/results/roofline.svg: a panel for each device, a point for each kernel.

python kernels/roofline.py
"""

import json
import sys
from pathlib import Path

from mmpt.scripts import script_parser

if __name__ == "__main__":
    script_parser(__doc__).parse_args()  # before what takes seconds to import

import matplotlib.pyplot as plt
import numpy as np

RESULTS = Path(__file__).parent / "results"
SPEED, INTENSITY = ": GFLOP/s", ": FLOP/byte"
PEAK, BANDWIDTH = "matrix product, GFLOP/s", "copy, GB/s"
MARKS = "osD^vP*X"


def main() -> None:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))]
    found = [result for result in found if any(row["name"] == PEAK for row in result["figures"])]  # measured on a device
    if not found:
        sys.exit(f"{RESULTS}: no results, run kernels/bench.py first")
    draw(found, RESULTS / "roofline.svg")


def draw(results: list[dict], path: Path) -> None:
    plt.rcParams["svg.hashsalt"] = "roofline"  # the same file for the same figures
    figure, panels = plt.subplots(1, len(results), figsize=(9 * len(results), 5.5), squeeze=False)
    for panel, result in zip(panels[0], results, strict=True):
        values = {row["name"]: row["value"] for row in result["figures"]}
        peak, bandwidth = values[PEAK], values[BANDWIDTH]
        points = {name.removesuffix(SPEED): (values[name.removesuffix(SPEED) + INTENSITY], values[name])
                  for name in values if name.endswith(SPEED) and name.removesuffix(SPEED) + INTENSITY in values}  # fmt: skip
        edges = [min(at for at, _ in points.values()) / 2, max(at for at, _ in points.values()) * 2]
        at = np.geomspace(*edges, 200)
        panel.loglog(at, np.minimum(peak, at * bandwidth), color="black", linewidth=1)
        panel.annotate(f"{bandwidth:.0f} GB/s", (edges[0], edges[0] * bandwidth), (14, 2), textcoords="offset points")
        panel.annotate(f"{peak:.0f} GFLOP/s", (edges[1], peak), (-4, 5), textcoords="offset points", ha="right")
        for number, (name, point) in enumerate(sorted(points.items())):
            share = point[1] / min(peak, point[0] * bandwidth)
            label = f"{name}: {share:.0%}"
            panel.plot(*point, MARKS[number % len(MARKS)], color=f"C{number}", label=label, markersize=7, alpha=0.85)
        panel.set(xlabel="FLOP / byte", ylabel="GFLOP/s", title=f"{result['device']}, {result['date']}")
        panel.legend(fontsize=8, title="share of the roofline")
        panel.grid(which="major", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
