"""Both quantisers, against golden values and a slow reference written from the papers' equations."""

import numpy as np
import pydantic
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.config import parse_config
from mmpt.errors import ConfigError, DataError
from mmpt.tokenizers.codebook_health import codebook_use
from mmpt.tokenizers.kmeans import assigned
from mmpt.tokenizers.quantizers import _fsq as fsq
from mmpt.tokenizers.quantizers._ema import EmaQuantizer
from mmpt.tokenizers.quantizers.ema import Ema
from mmpt.tokenizers.quantizers.fsq import Fsq
from mmpt.tokenizers.quantizers.none import Unquantized
from mmpt.tokenizers.speech.config import SpeechConfig


def ema(**changes) -> EmaQuantizer:
    return EmaQuantizer(Ema(**{"codes": 8, "dim": 3, **changes}))


def blobs(count: int, rows: int, dim: int = 3) -> torch.Tensor:
    centers = torch.eye(count, dim) * 10 if count <= dim else torch.randn(count, dim) * 10
    return centers.repeat_interleave(rows, dim=0) + 0.1 * torch.randn(count * rows, dim)


@pytest.mark.parametrize(
    ("x", "code", "state"),
    [
        ((0.0, 0.0), 7, (0.0, 0.0)),  # the middle of 3 and of 5 levels: 1 + 2 · 3
        ((9.0, 9.0), 14, (1.0, 1.0)),
        ((-9.0, -9.0), 0, (-1.0, -1.0)),
        ((9.0, -9.0), 2, (1.0, -1.0)),
        ((-9.0, 0.6), 9, (-1.0, 0.5)),  # (tanh 0.6 + 1) ÷ 2 · 4 = 3.07, so 0 + 3 · 3
        ((-0.6, -0.2), 6, (-1.0, 0.0)),  # (tanh −0.6 + 1) ÷ 2 · 2 = 0.46 and (tanh −0.2 + 1) ÷ 2 · 4 = 1.61, so 0 + 2 · 3
    ],
)
def test_fsq_golden_values(x, code, state):
    quantizer = Fsq(levels=(3, 5)).build()
    result = quantizer(torch.tensor([x]))
    assert result.codes.tolist() == [code]
    torch.testing.assert_close(result.states, torch.tensor([state]), atol=1e-6, rtol=0)


@settings(deadline=None, max_examples=25)
@given(levels=st.lists(st.integers(2, 9), min_size=1, max_size=4))
def test_fsq_every_code_survives_the_round_trip(levels):
    config = Fsq(levels=tuple(levels))
    quantizer = config.build()
    codes = torch.arange(config.codes)
    states = quantizer.decode(codes)
    assert config.codes == int(np.prod(levels)) and states.shape == (config.codes, len(levels))
    assert len(torch.unique(states, dim=0)) == config.codes
    assert torch.equal(quantizer(torch.atanh(0.999 * states)).codes, codes)


def test_fsq_passes_the_gradient_of_tanh():
    x = torch.linspace(-1.5, 1.5, 12).reshape(6, 2).requires_grad_()
    Fsq(levels=(4, 7)).build()(x).states.sum().backward()
    torch.testing.assert_close(x.grad, 1 - torch.tanh(x.detach()).square())


def test_fsq_of_wider_vectors_starts_along_their_principal_axes():
    """Axes and levels as numpy's SVD gives them; codes spread; what is decoded is near; nothing else is known later."""
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(8, 8, generator=draw)).Q
    rows = torch.randn(4000, 8, generator=draw) * torch.tensor([4.0, 2.0, 1.0, 0.05, 0.05, 0.05, 0.05, 0.05]) @ basis.t() + 3.0
    quantizer = Fsq(levels=(4, 2, 2), dim=8).build()
    assert torch.equal(quantizer.bounded(rows), rows)  # nothing is bounded before the axes are known
    garbage = torch.cat([rows, torch.full((50, 8), 1e3)])
    mask = torch.arange(len(garbage)) < len(rows)
    found = quantizer(garbage, mask)
    centred = (rows - rows.mean(dim=0)).double().numpy()
    axes = np.linalg.svd(centred, full_matrices=False)[2][:3]
    coordinates = centred @ axes.T
    states = np.stack([quantizer_levels(coordinates[:, i] / coordinates[:, i].std(), n) for i, n in enumerate((4, 2, 2))], 1)
    gains = (coordinates * states).sum(axis=0) / (states**2).sum(axis=0)
    expected = states * gains @ axes + rows.mean(dim=0).numpy()
    np.testing.assert_allclose(found.states[mask].numpy(), expected, atol=1e-4)
    assert codebook_use(found.codes[mask], 16)["entropy"] > 0.95
    assert ((rows - found.states[mask]).square().sum() / (rows - rows.mean(dim=0)).square().sum()) < 0.2
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer(rows + 5.0)
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())
    torch.testing.assert_close(quantizer.decode(found.codes), found.states)


def quantizer_levels(unit: np.ndarray, levels: int) -> np.ndarray:
    """Equation 1 of the paper on what has a standard deviation of 1."""
    return np.rint((np.tanh(0.8 * unit) + 1) / 2 * (levels - 1)) / (levels - 1) * 2 - 1


def test_fsq_of_wider_vectors_is_saved_whole_and_narrower_ones_are_refused():
    quantizer = Fsq(levels=(4, 2), dim=5).build()
    rows = torch.randn(100, 5)
    quantizer(rows)
    again = Fsq(levels=(4, 2), dim=5).build().bfloat16()
    again.load_state_dict(quantizer.state_dict())
    assert torch.equal(again(rows).codes, quantizer(rows).codes) and again.down.dtype == torch.float32
    with pytest.raises(pydantic.ValidationError, match="at least the number of levels, 2"):
        Fsq(levels=(4, 2), dim=1)


@pytest.mark.parametrize(("levels", "groups"), [((4, 2, 2), [3]), ((8, 8, 8, 8, 8), [3, 2]), ((2000, 3), [1, 1])])
def test_the_spread_of_fsq_is_the_gradient_of_its_definition(levels, groups, monkeypatch):
    """log K − H of the mean soft code, by autograd through the mean itself, where the shares are of the last batch alone."""
    monkeypatch.setattr(fsq, "MEMORY", 0.0)
    quantizer = Fsq(levels=levels, spread=0.5).build().train()
    rows = torch.randn(6, 5, len(levels), requires_grad=True)
    mask = torch.rand(6, 5) < 0.7
    found = quantizer(rows, mask)
    expected, start = 0.0, 0
    for size in groups:
        soft = torch.ones(int(mask.sum()), 1)
        for i in range(start, start + size):
            at = (torch.tanh(rows[mask][:, i, None]) + 1) / 2 * (levels[i] - 1)
            one = torch.softmax(-((at - torch.arange(levels[i])) ** 2) / 0.1, dim=1)
            soft = torch.einsum("nk,nl->nkl", soft, one).flatten(1)
        mean = soft.mean(dim=0)
        expected = expected + 0.5 * (mean * (mean * soft.shape[1]).clamp_min(1e-9).log()).sum()
        start += size
    torch.testing.assert_close(found.loss / found.count, expected, atol=1e-5, rtol=1e-4)
    (ours,) = torch.autograd.grad(found.loss / found.count, rows)
    (theirs,) = torch.autograd.grad(expected, rows)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-3)
    assert quantizer.eval()(rows).loss == 0


def test_the_shares_of_fsq_are_a_running_mean_over_batches():
    quantizer = Fsq(levels=(2, 2), spread=1.0).build().train()
    far = torch.tensor([[-9.0, -9.0], [9.0, -9.0], [-9.0, -9.0]])  # so far out that soft codes are whole
    expected = np.full(4, 0.25)
    for batch, counts in ((far, [2, 1, 0, 0]), (far[1:2], [0, 1, 0, 0])):
        loss = quantizer(batch).loss
        expected = 0.9 * expected + 0.1 * np.array(counts) / sum(counts)
        found = np.sort(quantizer.shares.numpy())
        np.testing.assert_allclose(found, np.sort(expected), rtol=1e-4)
        np.testing.assert_allclose(loss, (np.array(counts) * np.log(4 * expected)).sum(), rtol=1e-3)
    before = quantizer.shares.clone()
    quantizer(far, torch.zeros(3, dtype=torch.bool))  # a batch of padding alone
    quantizer.eval()(far)
    assert torch.equal(quantizer.shares, before) and "shares" in quantizer.state_dict()


def test_spread_brings_idle_codes_into_use():
    """Inputs that would take a few codes alone learn to take nearly all."""
    torch.manual_seed(0)
    quantizer = Fsq(levels=(2,) * 5, spread=1.0).build().train()
    layer = torch.nn.Linear(6, 5)
    inputs = torch.randn(400, 6) + 1.0
    before = codebook_use(quantizer(layer(inputs)).codes, 32)["used"]
    optimizer = torch.optim.Adam(layer.parameters(), 0.02)
    for _ in range(300):
        found = quantizer(layer(inputs))
        optimizer.zero_grad()
        (found.loss / found.count).backward()
        optimizer.step()
    assert before < 0.8 and codebook_use(quantizer(layer(inputs)).codes, 32)["used"] > 0.95


def test_k_means_starts_one_code_in_each_cluster():
    torch.manual_seed(0)
    quantizer = ema(codes=24, dim=4).train()
    x = blobs(4, 40, 4)
    quantizer(x)
    codes = quantizer.eval()(x).codes.reshape(4, 40)
    groups = [set(row.tolist()) for row in codes]
    assert all(not groups[i] & groups[j] for i in range(4) for j in range(i))
    assert (quantizer(x).states - x).abs().max() < 1.0  # the clusters lie 14 apart


def test_ema_follows_a_slow_reference():
    torch.manual_seed(1)
    quantizer = ema(decay=0.9, restart_every=1000).train()
    quantizer(torch.randn(64, 3))
    sums, counts = quantizer.sums.double().numpy().copy(), quantizer.counts.double().numpy().copy()
    for _ in range(5):
        entries = sums / counts[:, None]
        x = torch.randn(37, 3)
        rows = x.double().numpy()
        nearest = [min(range(8), key=lambda k, row=row: float(((row - entries[k]) ** 2).sum())) for row in rows]
        result = quantizer(x)
        assert result.codes.tolist() == nearest
        error = np.mean([(row - entries[k]) ** 2 for row, k in zip(rows, nearest, strict=True)])
        assert float(result.loss / result.count) == pytest.approx(0.25 * error, rel=1e-4) and result.count == 37
        for k in range(8):
            mine = [row for row, code in zip(rows, nearest, strict=True) if code == k]
            counts[k] = 0.9 * counts[k] + 0.1 * len(mine) / 37 * 8
            sums[k] = 0.9 * sums[k] + 0.1 * np.sum(mine, axis=0) / 37 * 8
        torch.testing.assert_close(quantizer.codebook.double(), torch.from_numpy(sums / counts[:, None]), atol=1e-4, rtol=1e-4)


def test_a_codebook_that_begins_from_given_rows_and_keeps_all_of_them_stays_as_it_was_started():
    """k-means over the rows, not over the first batch, and with decay 1 nothing moves or restarts it."""
    torch.manual_seed(0)
    quantizer, x = ema(codes=24, dim=4, decay=1, restart_every=1).train(), blobs(4, 40, 4)
    quantizer.begin(x)
    started = quantizer.codebook.clone()
    for _ in range(3):
        found = quantizer(torch.randn(30, 4) + 50)
    assert torch.equal(quantizer.codebook, started) and quantizer.restart_count() == 0 and found.count == 30
    assert (quantizer.eval()(x).states - x).abs().max() < 1.0


def put_away(quantizer: EmaQuantizer) -> None:
    """Half of the entries far from all data."""
    quantizer.codebook[4:] = quantizer.sums[4:] = 1000.0
    quantizer.sums[:4] = quantizer.codebook[:4]
    quantizer.counts.fill_(1.0)


def test_dead_codes_are_restarted_among_the_data():
    torch.manual_seed(2)
    quantizer = ema(decay=0.5, restart_every=10).train()
    x = torch.randn(256, 3)
    quantizer(x)
    put_away(quantizer)
    for _ in range(25):
        quantizer(x)
    assert quantizer.codebook.abs().max() < 10 and quantizer.restarts == 4
    assert codebook_use(quantizer.eval()(x).codes, 8)["used"] == 1.0


def test_a_collapse_is_ended_at_the_next_look_and_not_when_averages_show_it():
    """Two of 64 codes take everything: at a decay of 0.99 the others' counts would be below 0.05 only 300 steps later."""
    torch.manual_seed(0)
    quantizer = ema(codes=64, dim=2, restart_every=20, start="uniform").train()
    ends = torch.tensor([[5.0, 5.0], [-5.0, -5.0]])
    for _ in range(20):
        quantizer(ends[torch.randint(2, (100,))] + 0.3 * torch.randn(100, 2))
    assert quantizer.restarts >= 55
    few = ema(codes=64, dim=2, restart_every=20, start="uniform").train()
    for _ in range(20):
        few(ends)  # 40 inputs cannot use 64 codes
    assert few.restarts == 0


def test_statistics_are_sums_and_numbers_of_the_rows_of_each_code():
    torch.manual_seed(0)
    rows, codes = torch.randn(500, 3), torch.randint(8, (500,))
    found = assigned(rows, codes, 8)
    for code in range(8):
        own = rows[codes == code]
        assert torch.allclose(found[code], torch.tensor([*own.sum(dim=0), len(own)]), atol=1e-4)


def test_without_a_restart_dead_codes_stay_dead():
    torch.manual_seed(2)
    quantizer = ema(decay=0.5, restart_every=10_000).train()
    x = torch.randn(256, 3)
    quantizer(x)
    put_away(quantizer)
    for _ in range(25):
        quantizer(x)
    assert codebook_use(quantizer.eval()(x).codes, 8)["used"] == 0.5


def test_masked_rows_teach_the_codebook_nothing():
    x = torch.randn(4, 10, 3)
    mask = torch.arange(10).expand(4, 10) < torch.tensor([10, 3, 7, 1])[:, None]
    books = []
    for filler in (0.0, 1e6):
        torch.manual_seed(3)
        quantizer = ema().train()
        for _ in range(3):
            result = quantizer(torch.where(mask[..., None], x, torch.full_like(x, filler)), mask)
        books.append((quantizer.codebook.clone(), result.codes[mask], result.loss))
    assert all(torch.equal(one, other) for one, other in zip(*books, strict=True))


def test_ema_states_are_entries_with_the_gradient_passed_straight_through():
    torch.manual_seed(4)
    quantizer = ema(commitment=0.0).train()
    quantizer(torch.randn(50, 3))
    quantizer.eval()
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    x = torch.randn(2, 5, 3, requires_grad=True)
    result = quantizer(x)
    torch.testing.assert_close(result.states.detach(), quantizer.decode(result.codes))
    assert result.codes.shape == (2, 5) and result.codes.dtype == torch.int64 and float(result.loss) == 0
    direction = torch.randn_like(x)
    (result.states * direction).sum().backward()
    torch.testing.assert_close(x.grad, direction)
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())


def test_ema_codes_survive_the_round_trip_through_their_entries():
    torch.manual_seed(5)
    quantizer = ema(codes=16).train()
    for _ in range(3):
        quantizer(torch.randn(400, 3))
    quantizer.eval()
    codes = torch.randint(16, (3, 7))
    assert torch.equal(quantizer(quantizer.decode(codes)).codes, codes)


def test_ema_goes_on_from_its_state_to_the_bit():
    data = [torch.randn(50, 3, generator=torch.Generator().manual_seed(i)) for i in range(6)]
    one, other = ema(restart_every=2).train(), ema(restart_every=2).train()
    for step, x in enumerate(data):
        torch.manual_seed(step)
        one(x)
        if step == 2:
            other.load_state_dict(one.state_dict())
    for step, x in list(enumerate(data))[3:]:
        torch.manual_seed(step)
        other(x)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize(
    "cast", [lambda module: module.bfloat16(), lambda module: module.half(), lambda module: module.to(torch.bfloat16)]
)
def test_a_codebook_stays_float32_under_a_cast(cast):
    torch.manual_seed(6)
    quantizer = ema(decay=0.999).train()
    quantizer(torch.randn(64, 3))
    before = quantizer.codebook.clone()
    wrapped = torch.nn.Sequential(torch.nn.Linear(3, 3), quantizer)
    cast(wrapped)
    assert wrapped[0].weight.dtype != torch.float32 and torch.equal(quantizer.codebook, before)
    assert {buffer.dtype for buffer in quantizer.buffers()} == {torch.float32, torch.int64}
    x = torch.randn(64, 3).to(wrapped[0].weight.dtype)
    result = quantizer(x)
    assert result.states.dtype == x.dtype and result.loss.dtype == torch.float32
    moved = (quantizer.codebook - before).abs()
    assert 0 < moved.max() < 0.01  # steps that bfloat16 could not hold


def test_no_quantiser_changes_nothing():
    x = torch.randn(2, 3, 4, requires_grad=True)
    found = Unquantized(dim=4).build()(x)
    assert found.states is x and found.codes.shape == (2, 3) and float(found.loss) == float(found.count) == 0
    none = Unquantized(dim=4).build()
    assert none.bounded(x) is x and none.restart_count() == 0
    with pytest.raises(DataError, match="no codes to decode"):
        none.decode(found.codes)


def test_codebook_use_golden_values():
    uniform = codebook_use(torch.arange(8).repeat(5), 8)
    assert uniform == pytest.approx({"used": 1.0, "perplexity": 8.0, "entropy": 1.0})
    assert codebook_use(torch.full((9,), 3), 8) == pytest.approx({"used": 0.125, "perplexity": 1.0, "entropy": 0.0})
    assert codebook_use(torch.tensor([0, 0, 1, 1]), 4) == pytest.approx({"used": 0.5, "perplexity": 2.0, "entropy": 0.5})


def test_the_kind_of_quantizer_is_chosen_by_name():
    assert SpeechConfig(quantizer={"kind": "fsq", "levels": [4, 4]}).quantizer.codes == 16
    with pytest.raises(ConfigError, match="lfq"):
        parse_config({"quantizer": {"kind": "lfq", "codes": 4}}, SpeechConfig, "spec.yaml")
