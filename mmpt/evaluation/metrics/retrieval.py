"""Retrieval between two sets of embeddings."""

from collections.abc import Sequence

import numpy as np


def recall(queries: np.ndarray, items: np.ndarray, right: Sequence[Sequence[int]], k: int) -> float:
    """R@k: the share of `queries` [n, D] among whose k most similar `items` [m, D] (by scalar product; the first of equals) is
    one of `right`."""
    order = np.argsort(-(queries @ items.T), axis=1, kind="stable")[:, :k]
    return float(np.mean([bool(set(found) & set(wanted)) for found, wanted in zip(order.tolist(), right, strict=True)]))


def picture_text_recalls(pictures: np.ndarray, texts: np.ndarray, names: Sequence[str], ks: Sequence[int]) -> dict[str, float]:
    """R@k both ways of `pictures` [n, D] and the `texts` [n, D] of their captions `names`, and their mean.

    Each caption counts once however often it occurs, and every picture that has it is a right answer.
    """
    unique = list(dict.fromkeys(names))
    places = {name: number for number, name in enumerate(unique)}
    captions = texts[[list(names).index(name) for name in unique]]
    of_picture = [[places[name]] for name in names]
    of_caption = [[number for number, name in enumerate(names) if name == wanted] for wanted in unique]
    found = {f"picture to text R@{k}": recall(pictures, captions, of_picture, k) for k in ks}
    found |= {f"text to picture R@{k}": recall(captions, pictures, of_caption, k) for k in ks}
    return {**found, "R@mean": float(np.mean(list(found.values())))}
