"""What each part of the image tokenizer's design is worth: one change at a time, on drawn scenes.

    python tokenizers/benches/ablations.py [RUNS]

Trains every file of tokenizers/ablations (one core each; finished trainings in RUNS, default runs/ablations, are not repeated)
and measures held-out combinations. `predicts`: how much of the picture's embedding its codes predict, cosine. `bits of a code
after those before it`: what a small GRU, trained on the codes of the training pictures, needs for a held-out one; the fewer, the
easier the codes are for a causal language model. Writes tokenizers/results/ablations.json.
"""

import math
import sys
from pathlib import Path

import digits
import numpy as np
import pictures
import torch
import yaml
from torch import nn

from mmpt.evaluation.metrics.retrieval import picture_text_recalls
from mmpt.results import Figure, report
from mmpt.tokenizers.codebook_health import codebook_use
from mmpt.tokenizers.image.tokenizer import ImageTokenizer


def main() -> None:
    runs = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/ablations")
    torch.set_num_threads(1)
    train, test = (
        pictures.scene_shards(runs / f"scenes-{part}", test=part == "test", choosing=True) for part in ("train", "test")
    )
    specs = {
        runs / path.stem: {**yaml.safe_load(path.read_text()), "data": [str(train)]}
        for path in sorted((digits.ROOT / "tokenizers" / "ablations").glob("*.yaml"))
    }
    digits.train(specs)
    known, _ = pictures.pictures_of(train)
    shown, names = pictures.pictures_of(test)
    figures = []
    for run in specs:
        tokenizer = ImageTokenizer.load(run / "tokenizer")
        found = measured(tokenizer, shown, names)
        found["bits of a code after those before it"] = bits_of_a_code(
            tokenizer.encode(known), tokenizer.encode(shown), tokenizer.codes
        )
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


class NextCode(nn.Module):
    """A GRU over the codes before, with the place of the next."""

    def __init__(self, codes: int, length: int, width: int = 128):
        super().__init__()
        self.codes, self.places = nn.Embedding(codes + 1, width), nn.Embedding(length, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, codes)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy, in bits, of `codes` [B, T]."""
        before = torch.nn.functional.pad(codes[:, :-1] + 1, (1, 0))
        hidden, _ = self.gru(self.codes(before) + self.places.weight)
        return nn.functional.cross_entropy(self.out(hidden).flatten(0, 1), codes.flatten()) / math.log(2)


def bits_of_a_code(train: np.ndarray, test: np.ndarray, codes: int, steps: int = 1000, batch: int = 128) -> float:
    torch.manual_seed(0)
    model, (known, held) = NextCode(codes, train.shape[1]), map(torch.from_numpy, (train, test))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.003, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=steps)
    for _ in range(steps):
        loss = model(known[torch.randint(len(known), (batch,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.inference_mode():
        return float(model(held))


if __name__ == "__main__":
    main()
