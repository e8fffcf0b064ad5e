"""Recall at k against its definition."""

import numpy as np
import pytest

from mmpt.evaluation.metrics.retrieval import picture_text_recalls, recall


def test_recall_counts_queries_with_a_right_item_among_the_nearest():
    items = np.eye(4)
    queries = np.array([[1.0, 0.9, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.2, 1]])
    assert recall(queries, items, [[1], [2], [0]], 1) == pytest.approx(1 / 3)
    assert recall(queries, items, [[1], [2], [0]], 2) == pytest.approx(2 / 3)
    assert recall(queries, items, [[1], [2], [0]], 4) == 1.0


def test_equal_scores_are_not_given_to_the_right_one():
    """All embeddings alike: what stands first is found, not what is right."""
    rows = np.ones((10, 3))
    assert recall(rows, rows, [[i] for i in range(10)], 1) == pytest.approx(0.1)


def test_a_caption_that_repeats_counts_once_and_all_its_pictures_are_right():
    names = ["cat", "dog", "cat", "bird"]
    texts = np.eye(3)[[0, 1, 0, 2]]
    pictures = np.array([[1, 0, 0], [0, 1, 0], [0.1, 0, 1], [0, 0, 1.0]])  # the second cat looks like a bird
    found = picture_text_recalls(pictures, texts, names, (1, 2))
    assert found["picture to text R@1"] == 0.75 and found["picture to text R@2"] == 1.0
    assert found["text to picture R@1"] == pytest.approx(2 / 3)  # bird: two pictures score 1, the first of them is the cat
    assert found["R@mean"] == pytest.approx(np.mean([v for k, v in found.items() if k != "R@mean"]))
