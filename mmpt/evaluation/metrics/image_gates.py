"""Whether an image tokenizer is of use: its figures against bars, and against what needs no tokenizer."""

from mmpt.evaluation.metrics.image_tokenizer import prefixes
from mmpt.results import Figure
from mmpt.tokenizers.image.gates import FloorsConfig, Gates

FLOORS = ("the mean picture", "the nearest training picture")


def gate_figures(figures: dict[str, float], gates: Gates, judge: str = "") -> list[Figure]:
    """The figures that `gates` bars, with their bars; the name of one says which floor it is over. `judge`: whose features."""
    found = [Figure("codes used", figures["codes_used"], gates.used), Figure("entropy", figures["entropy"], gates.entropy)]
    if "gap" in figures:
        found.append(Figure("R@mean of codes below embeddings, points", figures["gap"], gates.gap, at_most=True))
    if "embeddings, R@mean" in figures:
        over_chance = figures["embeddings, R@mean"] / figures["R@mean by chance"]
        found.append(Figure("R@mean of embeddings ÷ chance", over_chance, min(gates.recall, 0.5 / figures["R@mean by chance"])))
    if gates.prefixes:
        found.append(Figure("beginnings that bring nothing", float(len(_idle_prefixes(figures))), 0.0, at_most=True))
    if gates.floors:
        found += _over_floors(figures, gates.floors, judge)
    for name, bar in (("rFID", gates.rfid), ("pFID", gates.pfid)):
        if name in figures:
            found.append(Figure(f"{name} of {figures['pictures']:.0f} pictures, {judge}", figures[name], bar, at_most=True))
    return found


def _over_floors(figures: dict[str, float], floors: FloorsConfig, judge: str) -> list[Figure]:
    found, key = [], "picture to text R@1"
    for name in ("embeddings", "codes"):
        if f"{name}, {key}" in figures and f"raw pixels, {key}" in figures:
            floor = figures[f"raw pixels, {key}"]
            above = 100 * (figures[f"{name}, {key}"] - floor)
            bar = None if floors.recall is None else min(floors.recall, 100 * (1 - floor))
            found.append(Figure(f"R@1 of {name} above raw pixels, points", above, bar))
    for floor in FLOORS:
        if f"PSNR of {floor}" in figures:
            above = figures["PSNR"] - figures[f"PSNR of {floor}"]
            found.append(Figure(f"PSNR above {floor}, dB", above, floors.psnr))
    for floor in FLOORS:
        if f"feature distance of {floor}" in figures:
            share = figures["feature distance"] / max(figures[f"feature distance of {floor}"], 1e-9)
            bar = None if floors.features is None else 1 - floors.features
            found.append(Figure(f"distance ÷ that of {floor}, {judge}", share, bar, at_most=True))
    return found


def _idle_prefixes(figures: dict[str, float]) -> list[int]:
    """Beginnings that draw nothing nearer to the picture than the one before, or than codes of another picture."""
    counts = prefixes(int(figures["codes_per_image"]))
    own = [figures[f"distance of the first {count}"] for count in counts]
    other = [figures[f"distance of the first {count} of others"] for count in counts]
    before = [float("inf"), *own[:-1]]
    return [count for count, *row in zip(counts, own, other, before, strict=True) if row[0] >= row[1] or row[0] >= row[2]]
