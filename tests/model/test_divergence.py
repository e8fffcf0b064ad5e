"""The divergence of two models' next tokens, from hidden states."""

import pytest
import torch

from mmpt.model.divergence import first_rows, reference, weighted_divergence


def sides(dtype=torch.float32):
    draw = torch.Generator().manual_seed(0)
    make = lambda *shape: torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)  # noqa: E731
    return make(37, 8), [make(11, 8), make(6, 8)], make(37, 5), [make(17, 5)], make(37).abs()


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("chunk", [None, 1, 10, 37])
def test_value_and_gradients_are_those_of_the_definition_in_float64(temperature, chunk):
    states, tables, known, other, weights = sides()
    given = [one.clone().requires_grad_(True) for one in (states, *tables)]
    wanted = [one.double().requires_grad_(True) for one in (states, *tables)]
    found = weighted_divergence(given[0], given[1:], known, other, weights, temperature, chunk)
    total = 0.0
    for token in range(len(states)):
        own = torch.cat([table @ wanted[0][token] for table in wanted[1:]]) / temperature
        theirs = (other[0].double() @ known[token].double()) / temperature
        p, q = theirs.softmax(0), own.softmax(0)
        total = total + weights[token].double() * temperature**2 * (p * (p / q).log()).sum()
    assert found.item() == pytest.approx(total.item(), rel=1e-5)
    (2 * found).backward()
    (2 * total).backward()
    for one, exact in zip(given, wanted, strict=True):
        torch.testing.assert_close(one.grad, exact.grad.float(), rtol=1e-4, atol=1e-5)
    exact = [[t.double() for t in one] for one in ([states], tables, [known], other, [weights])]
    plain = reference(exact[0][0], exact[1], exact[2][0], exact[3], exact[4][0], temperature)
    assert plain.item() == pytest.approx(total.item(), rel=1e-12)


def test_equal_models_are_not_apart_and_nothing_pulls():
    states, tables, _, _, weights = sides()
    own = states.clone().requires_grad_(True)
    found = weighted_divergence(own, tables, states, tables, weights)
    found.backward()
    assert found.item() == 0.0 and not own.grad.any()


def test_no_more_than_a_chunk_of_logits_exists_at_a_time():
    states, table = torch.zeros(4096, 4, requires_grad=True), torch.zeros(1000, 4)
    seen = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal seen
            found = function(*args, **(kwargs or {}))
            seen = max(seen, found.numel() if isinstance(found, torch.Tensor) else 0)
            return found

    with Largest():
        weighted_divergence(states, [table], states, [table], torch.ones(4096), chunk=64)
    assert seen == 64 * 1000


def test_shapes_that_do_not_agree_are_refused():
    states, tables, known, other, weights = sides()
    with pytest.raises(ValueError, match="17 and 16 rows: expected as many"):
        weighted_divergence(states, tables, known, [other[0][:16]], weights)


def test_the_first_rows_of_tables_that_follow_each_other():
    tables = [torch.arange(4), torch.arange(3)]
    assert [len(one) for one in first_rows(tables, 4)] == [4] and [len(one) for one in first_rows(tables, 6)] == [4, 2]
