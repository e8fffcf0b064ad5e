"""What an image tokenizer keeps: its codebook, the meaning of its codes, and what is drawn from them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from mmpt.evaluation.metrics.retrieval import picture_text_recalls
from mmpt.evaluation.readers import Read
from mmpt.results import Figure
from mmpt.tokenizers.codebook_health import code_counts, codebook_health
from mmpt.tokenizers.image.batches import picture_bytes
from mmpt.tokenizers.image.config import Gates
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

RANKS = (1, 5, 10)
"""Those of SEED's tables."""


@dataclass(frozen=True)
class ImageEvaluation:
    """`figures` by name; `codes` [n, codes_per_image]; `counts` [codebook]; pictures `drawn` from the first 1, 2, 4, … codes."""

    figures: dict[str, float]
    codes: np.ndarray
    counts: list[int]
    drawn: dict[int, list[Image.Image]]


def evaluate_image_tokenizer(
    tokenizer: ImageTokenizer, pictures: Sequence[Image.Image], captions: Sequence[str], reader: Read | None = None
) -> ImageEvaluation:
    """Figures over pictures and their captions.

    R@k of embeddings and of codes need a tokenizer with `branches`, `gap` is the difference of their R@mean in points.
    `distance of the first K` is the mean squared difference, in −1 … 1, of a picture drawn without guidance from its first K
    codes; `… of others` from the first K of another picture. `read`: share of pictures drawn from all codes in which `reader`
    finds the caption.
    """
    codes = tokenizer.encode(pictures)
    counts = code_counts(torch.from_numpy(codes), tokenizer.codes)
    health = codebook_health(counts)
    figures = {
        "pictures": float(len(pictures)),
        "codes": float(tokenizer.codes),
        "codes_per_image": float(tokenizer.codes_per_image),
        "bits_per_image": float(np.log2(tokenizer.codes)) * tokenizer.codes_per_image,
        "codes_used": health["used"],
        "perplexity": health["perplexity"],
        "entropy": health["entropy"],
    }
    if tokenizer.restoring is not None:
        texts = tokenizer.embed_texts(captions)
        embeddings = {"embeddings": tokenizer.embed(pictures), "codes": tokenizer.embed_codes(codes)}
        found = {name: picture_text_recalls(rows, texts, captions, RANKS) for name, rows in embeddings.items()}
        figures |= {f"{name}, {key}": value for name, row in found.items() for key, value in row.items()}
        figures["R@mean by chance"] = _chance(texts, captions)
        figures["gap"] = 100 * (found["embeddings"]["R@mean"] - found["codes"]["R@mean"])
    originals = _values(pictures, tokenizer.config.side)
    others = np.roll(codes, 1, axis=0)
    drawn = {}
    for count in prefixes(tokenizer.codes_per_image):
        drawn[count] = tokenizer.decode(codes, first=count, guidance=0.0)
        wrong = _values(tokenizer.decode(others, first=count, guidance=0.0), tokenizer.config.side)
        figures[f"distance of the first {count}"] = _distance(originals, _values(drawn[count], tokenizer.config.side))
        figures[f"distance of the first {count} of others"] = _distance(originals, wrong)
    if reader:
        final = tokenizer.decode(codes)
        figures["read"] = float(np.mean([reader(one) == caption for one, caption in zip(final, captions, strict=True)]))
        figures["read in originals"] = float(
            np.mean([reader(one) == caption for one, caption in zip(pictures, captions, strict=True)])
        )
    return ImageEvaluation(figures, codes, [int(count) for count in counts.tolist()], drawn)


def gate_figures(figures: dict[str, float], gates: Gates) -> list[Figure]:
    """The figures that `gates` bars, with their bars."""
    found = [Figure("codes used", figures["codes_used"], gates.used), Figure("entropy", figures["entropy"], gates.entropy)]
    if "gap" in figures:
        found.append(Figure("R@mean of codes below embeddings, points", figures["gap"], gates.gap, at_most=True))
        over_chance = figures["embeddings, R@mean"] / figures["R@mean by chance"]
        found.append(Figure("R@mean of embeddings ÷ chance", over_chance, min(gates.recall, 0.5 / figures["R@mean by chance"])))
    if gates.prefixes:
        found.append(Figure("beginnings that bring nothing", float(len(_idle_prefixes(figures))), 0.0, at_most=True))
    return found


def _chance(texts: np.ndarray, captions: Sequence[str]) -> float:
    """R@mean of pictures and texts that have nothing to do with each other, the mean of five draws."""
    random = np.random.default_rng(0)
    drawn = [[random.standard_normal(texts.shape) for _ in range(2)] for _ in range(5)]
    same = {caption: number for number, caption in reversed(list(enumerate(captions)))}
    first = [same[caption] for caption in captions]
    return float(np.mean([picture_text_recalls(one, other[first], captions, RANKS)["R@mean"] for one, other in drawn]))


def prefixes(queries: int) -> list[int]:
    """1, 2, 4, … and all."""
    return [*(1 << i for i in range(queries.bit_length()) if 1 << i < queries), queries]


def _idle_prefixes(figures: dict[str, float]) -> list[int]:
    """Beginnings that draw nothing nearer to the picture than the one before, or than codes of another picture."""
    counts = prefixes(int(figures["codes_per_image"]))
    own = [figures[f"distance of the first {count}"] for count in counts]
    other = [figures[f"distance of the first {count} of others"] for count in counts]
    before = [float("inf"), *own[:-1]]
    return [count for count, *row in zip(counts, own, other, before, strict=True) if row[0] >= row[1] or row[0] >= row[2]]


def _values(pictures: Sequence[Image.Image], side: int) -> np.ndarray:
    return np.stack([picture_bytes(picture, side) for picture in pictures]).astype(np.float32) / 127.5 - 1


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.square(one - other).mean())
