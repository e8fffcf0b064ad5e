"""What an image tokenizer keeps: its codebook, the meaning of its codes, and what is drawn from them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from mmpt.evaluation.metrics.frechet import Moments, frechet_distance
from mmpt.evaluation.metrics.picture_floors import Floors, floors, word_vectors
from mmpt.evaluation.metrics.picture_judge import PictureJudge, psnr
from mmpt.evaluation.metrics.retrieval import picture_text_recalls
from mmpt.evaluation.readers import Read
from mmpt.tokenizers.codebook_health import code_counts, codebook_health
from mmpt.tokenizers.image.gates import JudgeConfig
from mmpt.tokenizers.image.perturbing import perturbed
from mmpt.tokenizers.image.pixels import picture_bytes
from mmpt.tokenizers.image.renderers import Renderer
from mmpt.tokenizers.image.stage_config import PerturbConfig
from mmpt.tokenizers.image.tokenizer import ImageTokenizer

RANKS = (1, 5, 10)
"""Those of SEED's tables."""
WRONG = (0.1, 0.2, 0.3)
"""Shares of the codes that pFID is the mean over."""


Draw = Callable[[np.ndarray], Sequence[Image.Image]]


@dataclass(frozen=True)
class ImageEvaluation:
    """`figures` by name; `codes` [n, codes_per_image]; `counts` [codebook]; pictures `drawn` from the first 1, 2, 4, … codes; the
    name of the network that judged them; what another `renderer` drew of all codes."""

    figures: dict[str, float]
    codes: np.ndarray
    counts: list[int]
    drawn: dict[int, list[Image.Image]]
    judge: str
    rendered: list[Image.Image] | None = None


def evaluate_image_tokenizer(
    tokenizer: ImageTokenizer,
    pictures: Sequence[Image.Image],
    captions: Sequence[str],
    reader: Read | None = None,
    judged_by: JudgeConfig | None = None,
    trained_on: Iterable[tuple[np.ndarray, str]] = (),
    renderer: Renderer | None = None,
) -> ImageEvaluation:
    """Figures over held-out pictures and their captions.

    R@k of embeddings; that of codes needs a tokenizer with `branches`, and `gap` is the difference of their R@mean in points.
    `distance of the first K` is the mean squared difference, in −1 … 1, of a picture drawn without guidance from its first K
    codes; `… of others` from the first K of another picture. PSNR, the distance of features and rFID are of what `renderer` draws
    of all codes (by default `decode`), pFID of codes that are perturbed; the same figures of floors are of the mean picture and
    of the nearest of `trained_on`, whose text is also what raw pixels retrieve by. `read`: share of pictures drawn from all codes
    in which `reader` finds the caption.
    """
    side, aspect = tokenizer.config.side, tokenizer.config.aspect
    codes = tokenizer.encode(pictures)
    counts = code_counts(torch.from_numpy(codes), tokenizer.codes)
    health = codebook_health(counts)
    figures = {
        "pictures": float(len(pictures)),
        "codes": float(tokenizer.codes),
        "codes_per_image": float(tokenizer.codes_per_image),
        "bits_per_image": tokenizer.figures.bits,
        "codes_used": health["used"],
        "perplexity": health["perplexity"],
        "entropy": health["entropy"],
    }
    originals = np.stack([picture_bytes(picture, side, aspect) for picture in pictures])
    floor = floors(originals, trained_on)
    figures |= _retrieval(tokenizer, pictures, captions, codes, floor)
    others = np.roll(codes, 1, axis=0)
    draw = _drawing(tokenizer, renderer)
    drawn = {}
    for count in prefixes(tokenizer.codes_per_image):
        drawn[count] = tokenizer.decode(codes, first=count, guidance=0.0)
        wrong = tokenizer.decode(others, first=count, guidance=0.0)
        figures[f"distance of the first {count}"] = _distance(originals, stacked(drawn[count]))
        figures[f"distance of the first {count} of others"] = _distance(originals, stacked(wrong))
    judge, final = PictureJudge(judged_by or JudgeConfig(), side), draw(codes)
    figures |= looks(judge, originals, stacked(final), floor)
    figures |= _as_sets(judge, tokenizer, originals, stacked(final), codes, draw)
    if reader:
        figures["read"] = float(np.mean([reader(one) == caption for one, caption in zip(final, captions, strict=True)]))
        figures["read in originals"] = float(
            np.mean([reader(one) == caption for one, caption in zip(pictures, captions, strict=True)])
        )
    return ImageEvaluation(
        figures, codes, [int(count) for count in counts.tolist()], drawn, judge.name, list(final) if renderer else None
    )


def _drawing(tokenizer: ImageTokenizer, renderer: Renderer | None) -> Draw:
    """codes → pictures of the tokenizer's side, to be compared with the originals."""
    if renderer is None:
        return tokenizer.decode
    renders, side = renderer.build(tokenizer), tokenizer.config.side
    return lambda codes: [Image.fromarray(picture_bytes(picture, side)) for picture in renders.render(codes)]


def looks(judge: PictureJudge, originals: np.ndarray, drawn: np.ndarray, floor: Floors) -> dict[str, float]:
    """PSNR and distance of features, of what is drawn and of the floors; all uint8 [n, side, side, 3]."""
    shown = {"": drawn, " of the mean picture": np.broadcast_to(floor.mean, originals.shape)}
    if floor.looked:
        shown[" of the nearest training picture"] = floor.nearest
    figures = {"training pictures looked through": float(floor.looked)}
    for name, one in shown.items():
        figures[f"PSNR{name}"] = float(psnr(originals, one).mean())
        figures[f"feature distance{name}"] = float(judge.distance(originals, one).mean())
    return figures


def _retrieval(
    tokenizer: ImageTokenizer, pictures: Sequence[Image.Image], captions: Sequence[str], codes: np.ndarray, floor: Floors
) -> dict[str, float]:
    texts = tokenizer.embed_texts(captions)
    found = {"embeddings": picture_text_recalls(tokenizer.embed(pictures), texts, captions, RANKS)}
    figures = {"R@mean by chance": _chance(texts, captions)}
    if tokenizer.restoring is not None:
        found["codes"] = picture_text_recalls(tokenizer.embed_codes(codes), texts, captions, RANKS)
        figures["gap"] = 100 * (found["embeddings"]["R@mean"] - found["codes"]["R@mean"])
    if floor.looked:
        names = list(dict.fromkeys(captions))
        nearest = word_vectors(floor.texts, names)
        found["raw pixels"] = picture_text_recalls(nearest, word_vectors(captions, names), captions, RANKS)
    return figures | {f"{name}, {key}": value for name, row in found.items() for key, value in row.items()}


def _as_sets(
    judge: PictureJudge, tokenizer: ImageTokenizer, originals: np.ndarray, drawn: np.ndarray, codes: np.ndarray, draw: Draw
) -> dict[str, float]:
    """rFID, and pFID: the mean over `WRONG` shares of the codes, each replaced by one of its nearest entries (after RobusTok, Qiu
    et al. 2025, arXiv:2509.12474, whose shares and neighbours are others)."""
    if len(originals) < 2:
        return {}
    real = _moments(judge, originals)
    figures = {"rFID": frechet_distance(real, _moments(judge, drawn))}
    entries, found = tokenizer.entries().cpu(), []
    neighbours = max(1, min(100, entries.shape[1] // 40))
    for number, share in enumerate(WRONG):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(number)
            asked = PerturbConfig(pictures=1.0, codes=share, neighbours=neighbours)
            spoiled = perturbed(torch.from_numpy(codes), entries, asked).numpy()
        found.append(frechet_distance(real, _moments(judge, stacked(draw(spoiled)))))
    return figures | {"pFID": float(np.mean(found)), "pFID neighbours": float(neighbours)}


def _moments(judge: PictureJudge, pictures: np.ndarray) -> Moments:
    rows = judge.vectors(pictures)
    found = Moments(rows.shape[1])
    found.add(rows)
    return found


def stacked(pictures: Sequence[Image.Image]) -> np.ndarray:
    """uint8 [n, height, width, 3] of RGB pictures of one size."""
    return np.stack([np.asarray(picture) for picture in pictures])


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


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    apart = [np.square((a.astype(np.float32) - b) / 127.5).mean() for a, b in zip(one, other, strict=True)]
    return float(np.mean(apart))
