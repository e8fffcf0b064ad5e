"""Fewer features: pooled, merged, dropped, each against a definition of its own."""

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.model.backbone import BackboneConfig, build_backbone
from mmpt.model.config import FeatureInputConfig
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.reducers import Reducer
from mmpt.model.reducers._merge import merge_round, merged
from mmpt.model.reducers.drop import Drop
from mmpt.model.reducers.merge import Merge
from mmpt.model.reducers.pool import Pool

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
import feature_ranks  # noqa: E402
from tiny_runs import VOCABULARY  # noqa: E402


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_pooling_is_pytorchs_over_the_grid_and_a_plain_mean_where_it_divides():
    features = draw(2, 27 * 27, 5)
    found = Pool(rows=144).reduce(features)
    grid = features.transpose(1, 2).reshape(2, 5, 27, 27)
    wanted = nn.AdaptiveAvgPool2d((12, 12))(grid).flatten(2).transpose(1, 2)
    assert found.shape == (2, 144, 5) and torch.equal(found, wanted)
    corner = Pool(rows=81).reduce(features)[:, 0]
    assert torch.allclose(corner, grid[:, :, :3, :3].mean(dim=(2, 3)), atol=1e-6)
    line = Pool(rows=10, over="line").reduce(draw(1, 40, 3))
    assert torch.allclose(line, draw(1, 40, 3).unflatten(1, (10, 4)).mean(dim=2), atol=1e-6)


def test_merged_features_weigh_as_many_as_they_are_made_of():
    features = draw(3, 50, 8)
    found, sizes = merged(features, 7)
    assert found.shape == (3, 7, 8) and torch.equal(sizes.sum(dim=1), torch.full((3,), 50.0))
    # The weighted sum of all is what it was.
    assert torch.allclose((found * sizes[..., None]).sum(dim=1), features.sum(dim=1), atol=1e-4)
    assert torch.equal(Merge(rows=7).reduce(features), found)
    assert torch.equal(Merge(rows=50).reduce(features), features)


def test_a_round_of_merging_is_the_papers_matching():
    """Of places 0, 2, 4, … those most alike one of 1, 3, 5, … join it, worked out pair by pair in float64."""
    features, sizes, count = draw(1, 9, 4), torch.tensor([[1.0, 2, 1, 1, 3, 1, 1, 1, 2]]), 3
    rows = features[0].double().tolist()

    def cosine(one, other):
        product = sum(a * b for a, b in zip(one, other, strict=True))
        return product / math.sqrt(sum(a * a for a in one)) / math.sqrt(sum(b * b for b in other))

    best = {a: max((cosine(rows[a], rows[b]), b) for b in range(1, 9, 2)) for a in range(0, 9, 2)}
    gone = sorted(best, key=lambda a: -best[a][0])[:count]
    groups = {place: [place] for place in range(9) if place not in gone}
    for place in gone:
        groups[best[place][1]].append(place)
    found, weights = merge_round(features, sizes, count)
    assert weights[0].tolist() == [sum(float(sizes[0, one]) for one in group) for group in groups.values()]
    for row, group in zip(found[0], groups.values(), strict=True):
        whole = sum(float(sizes[0, one]) for one in group)
        wanted = [sum(float(sizes[0, one]) * rows[one][i] for one in group) / whole for i in range(4)]
        assert row.tolist() == pytest.approx(wanted, abs=1e-6)


def test_what_is_kept_differs_most():
    features = draw(2, 12, 6)
    found = Drop(rows=4).reduce(features)
    for own, kept in zip(features, found, strict=True):
        alike = nn.functional.normalize(own.double(), dim=1)
        apart = (1 - alike @ alike.T).tolist()
        chosen = [max(range(12), key=lambda i: min(apart[i][j] for j in range(12) if j != i))]
        while len(chosen) < 4:
            chosen.append(max((i for i in range(12) if i not in chosen), key=lambda i: min(apart[i][j] for j in chosen)))
        assert torch.equal(kept, own[sorted(chosen)])
    twins = draw(1, 5, 6).repeat(1, 3, 1)  # of three copies of five one of each is enough
    assert sorted(Drop(rows=5).reduce(twins)[0, :, 0].tolist()) == sorted(draw(1, 5, 6)[0, :, 0].tolist())


@pytest.mark.parametrize(
    ("reducer", "features"),
    [
        (Pool(rows=9), 10),
        (Pool(rows=5), 9),
        (Pool(rows=16), 9),
        (Pool(rows=9, over="line"), 8),
        (Merge(rows=9), 8),
        (Drop(rows=9), 8),
    ],
)
def test_numbers_that_do_not_fit(reducer: Reducer, features: int):
    with pytest.raises(ValueError, match=reducer.kind):
        reducer.reduce(draw(1, features, 3))


TOWER = {"side": 48, "tower": {"kind": "timm", "model": "test_vit.r160_in1k", "pretrained": False}}


@pytest.mark.parametrize(("kind", "rows"), [("merge", 4), ("drop", 3)])
def test_slots_are_the_rows_that_are_left(kind, rows):
    model = build_backbone(BackboneConfig(config=feature_ranks.BACKBONE), VOCABULARY.size, seed=0)
    config = parse_config({"encoder": TOWER, "reduce": {"kind": kind, "rows": rows}}, FeatureInputConfig, "test")
    inputs = FeatureInputs({"image": config}, model)
    assert inputs.rows == {"image": rows}
    pixels = inputs.read(feature_ranks.document("d", "image", feature_ranks.picture("red", 1), 5, rows).media[0])
    assert inputs.encode("image", pixels).shape[:2] == (1, rows)


def test_a_grid_with_a_class_token_is_told_before_anything_runs():
    model = build_backbone(BackboneConfig(config=feature_ranks.BACKBONE), VOCABULARY.size, seed=0)
    config = parse_config({"encoder": TOWER, "reduce": {"rows": 4}}, FeatureInputConfig, "test")
    with pytest.raises(ConfigError, match="pool: 10 features to 4 rows, expected squares"):
        FeatureInputs({"image": config}, model)
