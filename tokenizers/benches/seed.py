"""An image tokenizer in SEED's stages, on drawn scenes and on garments: what its codes keep.

    python tokenizers/benches/seed.py [RUNS]

Trains tokenizers/image_seed_scenes.yaml and image_seed_garments.yaml, on one core each (finished trainings in RUNS, default
runs/seed, are not repeated), and measures held-out combinations and tiles: retrieval by embeddings and by codes, linear probes
on both, the codebook, what is read back from drawn pictures, and how that falls where a tenth of the codes is wrong, before and
after hardening. Writes tokenizers/results/seed.json.
"""

import sys
from pathlib import Path

import digits
import numpy as np
import pictures
import torch
import yaml
from safetensors.torch import load_file

from mmpt.evaluation.image_page import write_image_page
from mmpt.evaluation.image_tokenizer import ImageEvaluation, evaluate_image_tokenizer
from mmpt.evaluation.pictures import read_scene
from mmpt.results import Figure, report
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

WRONG = 0.1
"""Share of the codes that are replaced by random ones."""


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/seed")
    torch.set_num_threads(1)
    data = {
        "scenes": (pictures.scene_shards(runs / "scenes-train", False), pictures.scene_shards(runs / "scenes-test", True)),
        "garments": (
            pictures.garment_shards(runs / "garments-train", False),
            pictures.garment_shards(runs / "garments-test", True),
        ),
    }
    specs = {}
    for name, (train, _) in data.items():
        spec = yaml.safe_load((digits.ROOT / "tokenizers" / f"image_seed_{name}.yaml").read_text())
        specs[runs / name] = {**spec, "data": [str(train)]}
    digits.train(specs)
    figures = []
    for name, (train, test) in data.items():
        figures += measured(runs / name, name, train, test)
    sys.exit(0 if report(figures, digits.RESULTS / "seed.json", ["scikit-learn"]) else 1)


def measured(run: Path, name: str, train: Path, test: Path) -> list[Figure]:
    tokenizer = ImageTokenizer.load(run / "tokenizer")
    known, known_names = pictures.pictures_of(train)
    shown, names = pictures.pictures_of(test)
    reader = read_scene if name == "scenes" else pictures.classifier(known, known_names)
    found = evaluate_image_tokenizer(tokenizer, shown, names, reader)
    write_image_page(run / "evaluation.html", name, shown, names, found, sorted(run.glob("*/metrics.jsonl")))
    some = slice(0, None, max(1, len(known) // 3000))
    codes = tokenizer.encode(known[some])
    on_embeddings = pictures.probe(tokenizer.features(known[some]), known_names[some], tokenizer.features(shown), names)
    on_codes = pictures.probe(
        tokenizer.features_of_codes(codes), known_names[some], tokenizer.features_of_codes(found.codes), names
    )
    kept = found.figures["read"] / found.figures["read in originals"]
    bars = {"gap": (3.3, True), "codes_used": (0.9,)}
    rows = [
        *(Figure(f"{name}: {key}", value, *bars.get(key, ())) for key, value in found.figures.items() if "distance" not in key),
        Figure(f"{name}: linear probe on embeddings", on_embeddings),
        Figure(f"{name}: linear probe on codes / on embeddings", on_codes / on_embeddings, 0.95),
        Figure(f"{name}: read in drawn / in originals", kept, 0.9 if name == "scenes" else 0.85),
        Figure(f"{name}: training, minutes", digits.training_seconds(run) / 60),
    ]
    return rows + robustness(run, name, tokenizer, found, names, reader)


def robustness(run: Path, name: str, tokenizer: ImageTokenizer, found: ImageEvaluation, names: list[str], reader) -> list[Figure]:
    """Accuracy with wrong codes, of the decoder after hardening (the saved one) and before (the last of stage `draw`)."""
    random = np.random.default_rng(0)
    wrong = np.where(
        random.random(found.codes.shape) < WRONG, random.integers(0, tokenizer.codes, found.codes.shape), found.codes
    )
    before = ImageTokenizer.load(run / "tokenizer")
    weights = load_file(sorted((run / "draw" / "checkpoints").glob("step-*"))[-1] / "model.safetensors")
    before.load_state_dict({key.removeprefix("tokenizer."): value for key, value in weights.items()})
    rows = []
    for when, one in (("before", before), ("after", tokenizer)):
        right, spoiled = (accuracy(one, codes, names, reader) for codes in (found.codes, wrong))
        rows.append(Figure(f"{name}: attributes read {when} hardening", right))
        rows.append(Figure(f"{name}: the same with a tenth of the codes wrong, {when}", spoiled))
    return rows


def accuracy(tokenizer: ImageTokenizer, codes: np.ndarray, names: list[str], reader) -> float:
    """Share of attributes that are read right in the drawn pictures."""
    scores = []
    for drawn, name in zip(tokenizer.decode(codes), names, strict=True):
        wanted, seen = pictures.attributes(name), pictures.attributes(reader(drawn))
        scores.append(np.mean([a == b for a, b in zip(wanted, seen, strict=True)]) if len(seen) == len(wanted) else 0.0)
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
