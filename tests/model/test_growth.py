"""Rows of new tokens: where they start, and what that promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mmpt.model.growth import constrained_word2vec, new_rows


def table(rows: int, width: int, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=draw) @ torch.randn(width, width, generator=draw) + 1.5


def in_hull(point: torch.Tensor, rows: torch.Tensor) -> bool:
    """Whether some convex combination of `rows` is `point`, by linear programming."""
    equalities = torch.cat([rows.T.double(), torch.ones(1, len(rows), dtype=torch.float64)])
    wanted = torch.cat([point.double(), torch.ones(1, dtype=torch.float64)])
    slack = 1e-4 * float(rows.abs().max())
    upper = torch.cat([equalities[:-1], -equalities[:-1]])
    bounds = torch.cat([wanted[:-1] + slack, -wanted[:-1] + slack])
    found = linprog(torch.zeros(len(rows)), upper, bounds, equalities[-1:], wanted[-1:])
    return found.status == 0


@settings(deadline=None, max_examples=20)
@given(st.integers(3, 40), st.integers(1, 6), st.integers(0, 99))
def test_rows_of_the_hull_never_win_against_the_old_ones(rows, width, seed):
    old = table(rows, width, seed)
    new = new_rows(old, 50, "convex_hull", torch.Generator().manual_seed(seed))
    hidden = torch.randn(64, width, generator=torch.Generator().manual_seed(seed + 1))
    best_old, best_new = (hidden @ old.T).amax(dim=1), (hidden @ new.T).amax(dim=1)
    assert (best_new <= best_old + 1e-4 * best_old.abs().clamp_min(1)).all()
    assert in_hull(new[0], old)


def test_multivariate_rows_have_mean_and_covariance_of_the_old():
    old = table(400, 5, 0)
    new = new_rows(old, 20_000, "multivariate", torch.Generator().manual_seed(0))
    wanted, found = torch.cov(old.T), torch.cov(new.T)
    assert (new.mean(dim=0) - old.mean(dim=0)).abs().max() <= 0.05 * old.std()
    assert (found - wanted).abs().max() <= 0.05 * wanted.abs().max()


def test_a_row_of_one_old_token_and_a_wrong_name():
    old = torch.ones(1, 3)
    assert torch.allclose(new_rows(old, 2, "convex_hull", torch.Generator()), torch.ones(2, 3))
    with pytest.raises(ValueError, match="expected one of mean, multivariate, convex_hull"):
        new_rows(old, 2, "random", torch.Generator())


def test_word2vec_learns_rows_within_the_hull_near_the_tokens_beside_them():
    """New tokens 40 … 43: 40 and 41 stand beside the first ten old tokens, 42 and 43 beside the next ten."""
    draw = torch.Generator().manual_seed(0)
    old = torch.randn(40, 6, generator=draw)
    old[:10, 0] += 4
    old[10:20, 0] -= 4
    sequences = []
    for _ in range(300):
        group = int(torch.randint(2, (1,), generator=draw))
        words = (10 * group + torch.randint(10, (4,), generator=draw)).tolist()
        sequences.append([words[0], words[1], 40 + 2 * group + int(torch.randint(2, (1,), generator=draw)), *words[2:]])
    rows, losses = constrained_word2vec(old, 4, sequences, torch.Generator().manual_seed(1), steps=300, members=40)
    again, _ = constrained_word2vec(old, 4, sequences, torch.Generator().manual_seed(1), steps=300, members=40)
    assert torch.equal(rows, again) and sum(losses[-20:]) < sum(losses[:20])
    first, second = old[:10].mean(dim=0), old[10:20].mean(dim=0)
    for number, row in enumerate(rows):
        own, other = (first, second) if number < 2 else (second, first)
        assert (row - own).norm() < 0.6 * (row - other).norm()
        assert in_hull(row, old)
    with pytest.raises(ValueError, match="no sequence"):
        constrained_word2vec(old, 4, [[1, 2, 3], [41]], torch.Generator())
