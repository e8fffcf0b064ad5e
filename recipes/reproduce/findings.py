"""What a study found: the figures of every variant and seed, and intervals of what it compares."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path

from scipy import stats
from study import FigureSource, Study, filled, slug

from mmpt.errors import DataError
from mmpt.results import PACKAGES, environment
from mmpt.storage import read_json, write_json

LEVEL = 0.95


def of_study(study: Study, root: Path) -> dict:
    """{"figures": {figure: {variant: [a value for each seed]}}, "comparisons": […]}."""
    figures = {
        name: {
            variant: [value_of(source, {**study.values, **values, "variant": slug(variant), "seed": seed, "root": str(root)})
                      for seed in study.seeds]
            for variant, values in study.variants.items()
            if variant in (source.variants or study.variants)
        }
        for name, source in study.figures.items()
    }  # fmt: skip
    comparisons = []
    for one in study.compare:
        more, less = figures[one.figure][one.more], figures[one.figure][one.less]
        differences = [a - b for a, b in zip(more, less, strict=True)]
        low, high = interval(differences)
        mean = statistics.mean(differences)
        comparisons.append({**one.model_dump(), "difference": mean, "low": low, "high": high, "holds": low > 0})
    return {
        "paper": study.paper,
        "claim": study.claim,
        "seeds": list(study.seeds),
        "figures": figures,
        "comparisons": comparisons,
    }


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of two or more paired differences, by Student's t."""
    mean, deviation = statistics.mean(differences), statistics.stdev(differences)
    half = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * deviation / math.sqrt(len(differences))
    return mean - half, mean + half


def value_of(source: FigureSource, values: dict) -> float:
    content = read_json(Path(str(filled(source.results, values))))
    value = _measure(content, source.benchmark, source.measure)
    return value if source.minus is None else value - _measure(content, source.minus, source.measure)


def _measure(content: dict, benchmark: str, measure: str) -> float:
    for result in content["results"]:
        for one in result["measures"]:
            if (result["name"], one["name"]) == (benchmark, measure):
                return one["value"]
    raise DataError(f"no measure {measure!r} of a benchmark {benchmark!r} in the results of {content['model']}")


def write(path: Path, name: str, found: dict) -> None:
    """Put a study's findings in place of its earlier ones."""
    content = read_json(path) if path.exists() else {"studies": {}}
    studies = {**content["studies"], name: {**found, **environment(PACKAGES)}}
    rows = [
        {
            "name": f"{study}: {one['figure']}, {one['more']} − {one['less']}, low end",
            "value": one["low"],
            "bar": None,  # it must lie above 0, and bars are met by what equals them
            "at_most": False,
            "ok": one["holds"],
        }
        for study, own in sorted(studies.items())
        for one in own["comparisons"]
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"figures": rows, "studies": dict(sorted(studies.items())), **environment(PACKAGES)})


def lines(found: dict) -> list[str]:
    """The findings for the terminal."""
    text = []
    for figure, variants in found["figures"].items():
        text.append(figure)
        for variant, values in variants.items():
            text.append(f"  {variant:24} {statistics.mean(values):8.4f}   ({', '.join(f'{value:.4f}' for value in values)})")
    for one in found["comparisons"]:
        verdict = "holds" if one["holds"] else "does not hold"
        ends = f"[{one['low']:.4f}, {one['high']:.4f}]"
        text.append(f"{one['figure']}: {one['more']} − {one['less']} = {one['difference']:.4f} {ends}: {verdict}")
    return text
