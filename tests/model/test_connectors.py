"""Connectors: shapes, what each row sees, one picture's independence of another, and every weight in every step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.config import parse_config
from mmpt.errors import ConfigError
from mmpt.model.config import FeatureInputConfig
from mmpt.model.connecting import FeatureMap, connected, place
from mmpt.model.connectors import Connector
from mmpt.model.connectors.tome_former import TomeFormer

KINDS = tuple(Connector.names())
QUERIES = {"resampler": {"rows": 5, "heads": 2}, "qformer": {"rows": 5, "heads": 2}, "tome_former": {"rows": 5, "heads": 2}}


def connector(kind: str, **options) -> FeatureMap:
    torch.manual_seed(0)
    return FeatureMap(Connector.member(kind)(**QUERIES.get(kind, {}), **options), feature_width=8, width=12)


def features(pictures: int, count: int = 16) -> torch.Tensor:
    return torch.randn(pictures, count, 8, generator=torch.Generator().manual_seed(pictures))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [False, True])
def test_rows_are_as_many_as_said_and_know_only_their_picture(kind, start):
    model = connector(kind, start_token=start).eval()
    shown = features(3)
    rows = model(shown)
    assert rows.shape == (3, model.connector.slots(16), 12)
    other = shown.clone()
    other[1] += 1.0
    changed = (model(other) - rows).abs().amax(dim=(1, 2))
    assert changed[1] > 0 and not changed[[0, 2]].any()
    assert not start or torch.equal(rows[:, 0], model.start.expand(3, -1))


def test_pixel_shuffle_joins_neighbours_in_their_order():
    model = connector("pixel_shuffle")
    grid = torch.zeros(1, 16, 8)
    grid[0, 6] = 1.0  # row 1, column 2: the square at the upper right
    moved = (model(grid) - model(torch.zeros(1, 16, 8))).abs().amax(dim=2)[0]
    assert moved[1] > 0 and not moved[[0, 2, 3]].any()
    with pytest.raises(ValueError, match="no such grid"):
        model(features(1, 15))
    with pytest.raises(ValueError, match="no such grid"):
        model.connector.slots(9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shown", [None, "some"])
def test_every_weight_takes_part_with_and_without_pictures(kind, shown):
    model = connector(kind, start_token=True)
    rows, zero = connected(model, features(2) if shown else None, model.connector.fewest)
    assert (
        rows.shape == ((2 if shown else 0), model.connector.slots(16 if shown else model.connector.fewest), 12)
        and float(zero.detach()) == 0.0
    )
    (rows.sum() + zero).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert shown or not any(parameter.grad.any() for parameter in model.parameters())


@settings(deadline=None, max_examples=25)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 9))
def test_rows_land_in_their_slots_in_order(slots, seed):
    slots = torch.tensor([slots])
    draw = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(1, slots.shape[1], 3, generator=draw, requires_grad=True)
    rows = torch.randn(int(slots.sum()), 3, generator=draw, requires_grad=True)
    found = place(embeddings, slots[0].nonzero()[:, 0], rows)
    assert torch.equal(found[slots], rows) and torch.equal(found[~slots], embeddings[~slots])
    found.sum().backward()
    assert bool((rows.grad == 1).all()) and torch.equal(embeddings.grad[0, :, 0] == 1, ~slots[0])
    with pytest.raises(ValueError, match="slots"):
        place(embeddings, slots[0].nonzero()[:, 0], torch.zeros(len(rows) + 1, 3))


def test_a_linear_connector_is_what_limber_trains():
    model = connector("linear")
    shown = features(2)
    assert [name for name, _ in model.named_parameters()] == ["map.weight", "map.bias"]
    assert torch.allclose(model(shown), shown @ model.map.weight.T + model.map.bias, atol=1e-6)


def test_rows_are_as_many_as_each_method_gives():
    assert {kind: connector(kind).connector.slots(16) for kind in KINDS} == {
        "linear": 16, "mlp": 16, "pixel_shuffle": 4, "qformer": 5, "resampler": 5, "tome_former": 5,
    }  # fmt: skip


def test_tome_former_merges_evenly_and_twins_count_twice():
    """Of features that come in pairs of equals, a block that merges each pair makes what it makes of all of them."""
    torch.manual_seed(0)
    pair = TomeFormer(rows=6, depth=2, heads=2)
    assert pair.merges(16) == [5, 5] and pair.merges(6) == [0, 0] and pair.merges(11) == [3, 2]
    model = FeatureMap(pair, 8, 12).double().map
    single = torch.randn(2, 6, 8, dtype=torch.float64)
    twins = single.repeat_interleave(2, dim=1)
    found, sizes = model.merged(twins)
    assert torch.equal(sizes, torch.full((2, 6), 2.0, dtype=torch.float64))
    wanted = twins
    for block in model.blocks:
        wanted = block(wanted)
    # Only the first round has twins to find, three of them; what is merged in the second was apart until then.
    assert pair.merges(12) == [3, 3]
    assert torch.allclose(found, wanted[:, ::2], atol=1e-12)
    _, sizes = model.merged(torch.randn(3, 16, 8, dtype=torch.float64))
    assert torch.equal(sizes.sum(dim=1), torch.full((3,), 16.0, dtype=torch.float64))


def test_too_few_blocks_for_so_much_merging_are_told():
    with pytest.raises(ValueError, match="depth 2 leaves 25 of 100 features, not 6"):
        TomeFormer(rows=6, depth=2, heads=2).count(100)
    with pytest.raises(ValueError, match="4 features cannot become 6 rows"):
        TomeFormer(rows=6, heads=2).count(4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("conv", "connector: no connector 'conv'"),
        ({"kind": "qformer", "width": 10, "heads": 4}, "width 10 is no multiple of heads 4"),
        ({"kind": "resampler", "rows": 0}, "connector.rows: "),
        ({"kind": "mlp", "rows": 4}, "connector.rows: unknown key"),
        ({"rows": 4}, "connector.rows: unknown key"),
    ],
)
def test_configurations_that_cannot_work(content, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"encoder": {"whisper": "x"}, "connector": content}, FeatureInputConfig, "test")


def test_heads_that_do_not_divide_the_width_of_the_features():
    with pytest.raises(ValueError, match="heads 8 does not divide its width 12"):
        Connector.member("resampler")().build(12, 16)
