"""What each part of the image tokenizer's design is worth: one change at a time, on drawn scenes.

    python tokenizers/benches/ablations.py [RUNS]

Trains every file of tokenizers/ablations (one core each; finished trainings in RUNS, default runs/ablations, are not repeated)
and measures held-out combinations. `predicts`: how much of the picture's embedding its codes predict, cosine. Writes
tokenizers/results/ablations.json.
"""

import sys
from pathlib import Path

import digits
import numpy as np
import pictures
import torch
import yaml

from mmpt.evaluation.retrieval import picture_text_recalls
from mmpt.results import Figure, report
from mmpt.tokenizers.image.tokenizer import ImageTokenizer
from mmpt.tokenizers.quantizers import codebook_use


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/ablations")
    torch.set_num_threads(1)
    train, test = pictures.scene_shards(runs / "scenes-train", False), pictures.scene_shards(runs / "scenes-test", True)
    specs = {
        runs / path.stem: {**yaml.safe_load(path.read_text()), "data": [str(train)]}
        for path in sorted((digits.ROOT / "tokenizers" / "ablations").glob("*.yaml"))
    }
    digits.train(specs)
    shown, names = pictures.pictures_of(test)
    figures = []
    for run in specs:
        found = measured(ImageTokenizer.load(run / "tokenizer"), shown, names)
        figures += [Figure(f"{run.name}: {key}", value) for key, value in found.items()]
        figures.append(Figure(f"{run.name}: training, minutes", digits.training_seconds(run) / 60))
    sys.exit(0 if report(figures, digits.RESULTS / "ablations.json") else 1)


def measured(tokenizer: ImageTokenizer, shown: list, names: list[str]) -> dict[str, float]:
    codes = tokenizer.encode(shown)
    use = codebook_use(torch.from_numpy(codes), tokenizer.codes)
    texts, pictured = tokenizer.embed_texts(names), tokenizer.embed(shown)
    recalls = {
        "embeddings": picture_text_recalls(pictured, texts, names, (1, 5)),
        "codes": picture_text_recalls(tokenizer.embed_codes(codes), texts, names, (1, 5)),
    }
    predicted = tokenizer.predicted_embedding(codes)
    near = (predicted * pictured).sum(axis=1) / np.linalg.norm(predicted, axis=1).clip(1e-9)
    return {
        "codes used": use["used"],
        "entropy": use["entropy"],
        **{f"{kind}, R@mean": row["R@mean"] for kind, row in recalls.items()},
        "gap, points": 100 * (recalls["embeddings"]["R@mean"] - recalls["codes"]["R@mean"]),
        "predicts": float(near.mean()),
    }


if __name__ == "__main__":
    main()
