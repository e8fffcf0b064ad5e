"""Rows of new tokens: where they start, and what that promises."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.model.config import BackboneConfig
from mmpt.model.row_init import RowInitialization
from mmpt.model.row_init._word2vec import learned_rows
from mmpt.model.row_init.constrained_word2vec import ConstrainedWord2vec
from mmpt.model.row_init.convex_hull import ConvexHull
from mmpt.model.row_init.mean import Mean
from mmpt.model.row_init.multivariate import Multivariate
from mmpt.model.row_init.translation import Translation


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
    new = ConvexHull().new_rows(old, 50, torch.Generator().manual_seed(seed))
    hidden = torch.randn(64, width, generator=torch.Generator().manual_seed(seed + 1))
    best_old, best_new = (hidden @ old.T).amax(dim=1), (hidden @ new.T).amax(dim=1)
    assert (best_new <= best_old + 1e-4 * best_old.abs().clamp_min(1)).all()
    assert in_hull(new[0], old)


def test_multivariate_rows_have_mean_and_covariance_of_the_old():
    old = table(400, 5, 0)
    new = Multivariate().new_rows(old, 20_000, torch.Generator().manual_seed(0))
    wanted, found = torch.cov(old.T), torch.cov(new.T)
    assert (new.mean(dim=0) - old.mean(dim=0)).abs().max() <= 0.05 * old.std()
    assert (found - wanted).abs().max() <= 0.05 * wanted.abs().max()


def test_mean_rows_stay_near_the_mean_and_differ():
    old = table(400, 5, 0)
    new = Mean().new_rows(old, 2000, torch.Generator().manual_seed(0))
    assert (new.mean(dim=0) - old.mean(dim=0)).abs().max() <= 0.002 * old.std()
    assert float((new - old.mean(dim=0)).std() / old.std()) == pytest.approx(0.02, rel=0.05)
    assert torch.equal(Mean(noise=0).new_rows(old, 1, torch.Generator())[0], old.mean(dim=0))
    assert Mean().new_rows(old.bfloat16(), 3, torch.Generator()).dtype == torch.bfloat16


def test_a_row_of_one_old_token_and_a_wrong_name():
    old = torch.ones(1, 3)
    assert torch.allclose(ConvexHull().new_rows(old, 2, torch.Generator()), torch.ones(2, 3))
    with pytest.raises(ConfigError, match="row_init: no row initialization 'convex', did you mean convex_hull"):
        parse_config({"path": "x", "row_init": "convex"}, BackboneConfig, "test")
    assert RowInitialization.names() == ["constrained_word2vec", "convex_hull", "mean", "multivariate", "translation"]
    assert [kind for kind in RowInitialization.names() if RowInitialization.member(kind).reads_text] == [
        "constrained_word2vec",
        "translation",
    ]


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
    settings = ConstrainedWord2vec(steps=300, members=40)
    rows, losses = learned_rows(settings, old, 4, sequences, torch.Generator().manual_seed(1))
    again = settings.new_rows(old, 4, torch.Generator().manual_seed(1), sequences)
    assert torch.equal(rows, again) and sum(losses[-20:]) < sum(losses[:20])
    first, second = old[:10].mean(dim=0), old[10:20].mean(dim=0)
    for number, row in enumerate(rows):
        own, other = (first, second) if number < 2 else (second, first)
        assert (row - own).norm() < 0.6 * (row - other).norm()
        assert in_hull(row, old)
    with pytest.raises(ValueError, match="no sequence"):
        settings.new_rows(old, 4, torch.Generator(), [[1, 2, 3], [41]])


def model_1(sequences: list[tuple[list[str], list[str]]], rounds: int) -> dict[tuple[str, str], float]:
    """p(word | token) by IBM Model 1 in plain loops (Brown et al. 1993)."""
    words, tokens = ({one for pair in sequences for one in pair[side]} for side in (0, 1))
    probability = {(word, token): 1 / len(tokens) for word in words for token in tokens}
    counts: dict[tuple[str, str], float] = {}
    for _ in range(rounds):
        counts = dict.fromkeys(probability, 0.0)
        for said, heard in sequences:
            for token in heard:
                total = sum(probability[word, token] for word in said)
                for word in said:
                    counts[word, token] += probability[word, token] / total
        probability = {(w, t): counts[w, t] / sum(counts[w, other] for other in tokens) for w, t in probability}
    return {(w, t): count / sum(counts[other, t] for other in words) for (w, t), count in counts.items()}


def test_a_translated_row_is_the_words_that_model_1_finds_for_it():
    old = table(6, 4, 0)
    pairs = [([0, 1, 3], [6, 6, 7, 8]), ([1, 2, 3], [7, 9, 9, 8]), ([0, 2, 2, 3], [6, 9, 8])]
    wanted = model_1(pairs, 5)
    ids = [[*said, *heard] for said, heard in pairs]
    # One too long to say anything, one with marks alone, one with a prompt alone: none of them counts.
    ids += [list(range(11)) * 3, [1, 2, 3, 6, 7], [4, 5, 6, 7, 8, 9]]
    found = Translation(rounds=5, noise=0, longest=20).new_rows(old, 5, torch.Generator(), ids)
    for token in range(6, 10):
        assert torch.allclose(found[token - 6], sum(wanted[word, token] * old[word] for word in range(4)), atol=1e-5)
    assert torch.allclose(found[4], old.mean(dim=0), atol=1e-5)
    assert wanted[0, 6] > 0.6 and wanted[2, 9] > 0.6


def test_translated_rows_of_one_word_differ_by_the_noise():
    old, ids = table(50, 8, 0), [[3, 4, 5, 50, 51, 52]]
    settings = Translation(noise=0.1)
    found = settings.new_rows(old, 3, torch.Generator().manual_seed(0), ids)
    assert 0 < (found - old[3:6].mean(dim=0)).abs().max() < 0.5 * old.std()
    assert torch.equal(found, settings.new_rows(old, 3, torch.Generator().manual_seed(0), ids))
    with pytest.raises(ValueError, match="no sequence of at most 512 ids"):
        settings.new_rows(old, 3, torch.Generator(), [[1, 2, 3]])
