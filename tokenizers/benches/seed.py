"""An image tokenizer in SEED's stages, on drawn scenes and on garments: what its codes keep.

    python tokenizers/benches/seed.py [RUNS]

Trains tokenizers/image_seed_scenes.yaml and image_seed_garments.yaml, on one core each (finished trainings in RUNS, default
runs/seed, are not repeated), and measures held-out combinations and tiles: retrieval by embeddings and by codes, linear probes
on both, the codebook, what is read back from drawn pictures, and how that falls where a tenth of the codes is wrong, before and
after hardening. Writes tokenizers/results/seed.json.
"""

import sys
from dataclasses import replace
from pathlib import Path

import digits
import numpy as np
import pictures
import torch
from safetensors.torch import load_file

from mmpt.evaluation.metrics.image_gates import gate_figures
from mmpt.evaluation.metrics.image_tokenizer import ImageEvaluation, evaluate_image_tokenizer
from mmpt.evaluation.pages.image import STAGES, write_image_page
from mmpt.evaluation.readers.scenes import read_scene
from mmpt.results import Figure, report
from mmpt.tokenizers.image.gates import Gates
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

WRONG = 0.1
"""Share of the codes that are replaced by random ones."""


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/seed")
    torch.set_num_threads(1)
    data = {name: pictures.shards(name, runs) for name in pictures.KINDS}
    digits.train({runs / name: pictures.specification(name, train) for name, (train, _) in data.items()})
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
    write_image_page(run / "evaluation.html", name, shown, names, found, [run / stage / "metrics.jsonl" for stage in STAGES])
    some = slice(0, None, max(1, len(known) // 3000))
    codes = tokenizer.encode(known[some])
    on_embeddings = pictures.probe(tokenizer.features(known[some]), known_names[some], tokenizer.features(shown), names)
    on_codes = pictures.probe(
        tokenizer.features_of_codes(codes), known_names[some], tokenizer.features_of_codes(found.codes), names
    )
    kept = found.figures["read"] / found.figures["read in originals"]
    gates = gate_figures(found.figures, Gates(used=0.9))
    rows = [
        *(replace(gate, name=f"{gate.name}: {name}") for gate in gates),
        *(Figure(f"{key}: {name}", value) for key, value in found.figures.items() if key not in ("gap", "codes_used", "entropy")),
        Figure(f"linear probe on embeddings: {name}", on_embeddings),
        Figure(f"linear probe on codes / on embeddings: {name}", on_codes / on_embeddings, 0.95),
        Figure(f"read in drawn / in originals: {name}", kept, 0.9 if name == "scenes" else 0.85),
        Figure(f"training, minutes: {name}", digits.training_seconds(run) / 60),
    ]
    return rows + robustness(run, name, tokenizer, found, names, reader)


def robustness(run: Path, name: str, tokenizer: ImageTokenizer, found: ImageEvaluation, names: list[str], reader) -> list[Figure]:
    """Accuracy with wrong codes, of the decoder after hardening (the saved one) and before (the last of stage `draw`)."""
    random = np.random.default_rng(0)
    wrong = np.where(
        random.random(found.codes.shape) < WRONG, random.integers(0, tokenizer.codes, found.codes.shape), found.codes
    )
    rows = []
    for when, one in (("before", before_hardening(run)), ("after", tokenizer)):
        right, spoiled = (pictures.accuracy(one.decode(codes), names, reader) for codes in (found.codes, wrong))
        rows.append(Figure(f"attributes read {when} hardening: {name}", right))
        rows.append(Figure(f"the same with a tenth of the codes wrong, {when}: {name}", spoiled))
    return rows


def before_hardening(run: Path) -> ImageTokenizer:
    """The tokenizer as stage `draw` left it."""
    tokenizer = ImageTokenizer.load(run / "tokenizer")
    weights = load_file(sorted((run / "draw" / "checkpoints").glob("step-*"))[-1] / "model.safetensors")
    tokenizer.load_state_dict({key.removeprefix("tokenizer."): value for key, value in weights.items()})
    return tokenizer


if __name__ == "__main__":
    main()
