"""The fused loss against float64 arithmetic written out, its gradients, its memory promise and its determinism."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmpt.kernels import cross_entropy
from mmpt.kernels.cross_entropy import chunk_tokens, reference, weighted_linear_cross_entropy


def problem(tokens, vocabulary, width, seed, dtype=torch.float64, supervised=0.5):
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    head = torch.randn(vocabulary, width, generator=draw, dtype=torch.float64).to(dtype).requires_grad_()
    kept = torch.rand(tokens, generator=draw) < supervised
    targets = torch.where(kept, torch.randint(0, vocabulary, (tokens,), generator=draw), -100)
    weights = torch.where(kept, 0.1 + 2 * torch.rand(tokens, generator=draw), 0.0)
    return hidden, head, targets, weights


def by_hand(hidden, head, targets, weights):
    """loss, nll, d hidden, d head in float64, token by token, from the formulas."""
    hidden, head = hidden.detach().double(), head.detach().double()
    loss, nll = 0.0, torch.zeros(len(hidden), dtype=torch.float64)
    grad_hidden, grad_head = torch.zeros_like(hidden), torch.zeros_like(head)
    for t in range(len(hidden)):
        if weights[t] == 0:
            continue
        probabilities = torch.softmax(head @ hidden[t], dim=0)
        nll[t] = -probabilities[targets[t]].log()
        loss += weights[t].double() * nll[t]
        slope = probabilities.clone()
        slope[targets[t]] -= 1.0
        grad_hidden[t] = weights[t].double() * slope @ head
        grad_head += weights[t].double() * torch.outer(slope, hidden[t])
    return loss, nll, grad_hidden, grad_head


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(2, 30), st.integers(1, 9), st.integers(0, 99), st.sampled_from([0.0, 0.3, 1.0]))
def test_equals_the_formulas_in_chunks_of_three(tokens, vocabulary, width, seed, supervised):
    arguments = problem(tokens, vocabulary, width, seed, supervised=supervised)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "chunk_tokens", lambda *_: 3)
        loss, nll, _ = weighted_linear_cross_entropy(*arguments)
        (2.5 * loss).backward()
    expected = by_hand(*arguments)
    torch.testing.assert_close(loss.detach(), torch.as_tensor(expected[0], dtype=torch.float64), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(nll, expected[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(arguments[0].grad, 2.5 * expected[2], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(arguments[1].grad, 2.5 * expected[3], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_precision_at_an_odd_shape(dtype, bound):
    arguments = problem(131, 1009, 37, seed=1, dtype=dtype)
    loss, nll, _ = weighted_linear_cross_entropy(*arguments)
    loss.backward()
    expected = by_hand(*arguments)
    assert loss.dtype == nll.dtype == torch.float32
    for found, wanted in zip((nll, arguments[0].grad, arguments[1].grad), expected[1:], strict=True):
        assert (found.double() - wanted).abs().max() <= bound * wanted.abs().max()


def test_gradcheck_and_reference_agree():
    hidden, head, targets, weights = problem(9, 7, 4, seed=2)
    assert torch.autograd.gradcheck(lambda h, w: weighted_linear_cross_entropy(h, w, targets, weights)[0], (hidden, head))
    fused, plain = weighted_linear_cross_entropy(hidden, head, targets, weights), reference(hidden, head, targets, weights)
    for one, other in zip(fused, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_mixed_precision_gives_a_float32_gradient_of_a_float32_head():
    hidden, head, targets, weights = problem(64, 50, 16, seed=3, dtype=torch.float32)
    low = hidden.detach().bfloat16().requires_grad_()
    weighted_linear_cross_entropy(low, head, targets, weights)[0].backward()
    expected = by_hand(low, head, targets, weights)[3]
    assert low.grad.dtype == torch.bfloat16 and head.grad.dtype == torch.float32
    assert (head.grad.double() - expected).abs().max() <= 2e-2 * expected.abs().max()


def test_same_input_gives_the_same_bits():
    runs = []
    for _ in range(2):
        arguments = problem(300, 501, 33, seed=4, dtype=torch.float32)
        loss, nll, _ = weighted_linear_cross_entropy(*arguments)
        loss.backward()
        runs.append((loss.detach(), nll, arguments[0].grad, arguments[1].grad))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_frozen_head_and_no_grad_compute_only_what_is_asked_for(monkeypatch):
    hidden, head, targets, weights = problem(20, 11, 5, seed=5)
    expected = by_hand(hidden, head, targets, weights)[2]
    head.requires_grad_(False)
    weighted_linear_cross_entropy(hidden, head, targets, weights)[0].backward()
    assert head.grad is None
    torch.testing.assert_close(hidden.grad, expected, rtol=1e-11, atol=1e-12)

    head.requires_grad_(True)
    monkeypatch.setattr(torch.Tensor, "scatter_add_", None)  # the first operation of the gradient
    with torch.no_grad():
        loss, _, _ = weighted_linear_cross_entropy(hidden, head, targets, weights)
    assert not loss.requires_grad


def test_ignored_tokens_never_reach_the_head(monkeypatch):
    hidden, head, targets, weights = problem(200, 13, 5, seed=6, supervised=0.3)
    hidden.data[weights == 0] = float("nan")
    rows = []
    logits = cross_entropy._logits
    monkeypatch.setattr(cross_entropy, "_logits", lambda x, *rest: (rows.append(len(x)), logits(x, *rest))[1])
    loss, nll, _ = weighted_linear_cross_entropy(hidden, head, targets, weights)
    loss.backward()
    assert sum(rows) == int((weights != 0).sum())
    assert torch.isfinite(loss) and torch.isfinite(head.grad).all() and not hidden.grad[weights == 0].any()


def test_chunks_keep_logits_within_the_promise():
    assert chunk_tokens(32_000, 512, 4, learned=False) * 32_000 * 4 <= cross_entropy.CHUNK_BYTES
    assert chunk_tokens(10**9, 512, 4, learned=False) == cross_entropy.MIN_CHUNK_TOKENS
    assert 4 * chunk_tokens(150_000, 1024, 4, learned=True) <= 1024
    for learned in (False, True):  # a GPU's, whether the head rests or not
        assert chunk_tokens(176_252, 4096, 4, learned, least=cross_entropy.GPU_CHUNK_TOKENS) == 4096


def test_a_retained_graph_gives_the_same_gradient_again():
    hidden, head, targets, weights = problem(4, 5, 3, seed=10)
    loss = 3 * weighted_linear_cross_entropy(hidden, head, targets, weights).loss
    loss.backward(retain_graph=True)
    first = head.grad.clone()
    loss.backward()
    torch.testing.assert_close(head.grad, 2 * first, rtol=1e-12, atol=0)


def test_wrong_shapes_are_refused():
    hidden, head, targets, weights = problem(4, 5, 3, seed=7)
    with pytest.raises(ValueError, match=r"expected \[N, H\] and \[V, H\]"):
        weighted_linear_cross_entropy(hidden, head.T, targets, weights)
    with pytest.raises(ValueError, match=r"expected \[4\]"):
        weighted_linear_cross_entropy(hidden, head, targets[:3], weights)


def test_a_head_in_two_tables_is_the_head_of_both_and_rests_in_part():
    hidden, head, targets, weights = problem(30, 20, 6, seed=8)
    text, new = head.detach()[:13].clone(), head.detach()[13:].clone().requires_grad_()
    whole = weighted_linear_cross_entropy(hidden, head, targets, weights)
    whole.loss.backward()
    slope, hidden.grad = hidden.grad, None
    split = weighted_linear_cross_entropy(hidden, (text, new), targets, weights)
    split.loss.backward()
    torch.testing.assert_close(split.loss, whole.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(hidden.grad, slope, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(new.grad, head.grad[13:], rtol=1e-11, atol=1e-12)
    assert text.grad is None and torch.equal(split.correct, whole.correct)


@pytest.mark.parametrize("kernel", ["torch", "triton"])
def test_right_predictions_are_counted_in_the_same_pass(kernel):
    hidden, head, targets, weights = problem(64, 5, 8, seed=9, dtype=torch.float32)
    best = (hidden @ head.T).argmax(dim=1)
    targets = torch.where(torch.arange(64) % 2 == 0, best, (best + 1) % 5)
    correct = weighted_linear_cross_entropy(hidden, head, targets, weights, kernel).correct
    assert torch.equal(correct, (torch.arange(64) % 2 == 0) & (weights != 0)) and correct.any()


def aligned_like_a_gpu(tables, rows):
    """Logits that a kernel is given: each row, and each table in it, begins at a multiple of 64 columns."""
    first = cross_entropy._first_columns(tables)
    found = cross_entropy._logits(rows, tables, rows.new_empty(len(rows), first[-1]))
    assert all(column % 64 == 0 for column in first) and found.stride(0) % 64 == 0
    return found, first


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=4), st.integers(1, 20), st.integers(0, 99), st.data())
def test_odd_tables_are_aligned_and_are_the_head_of_all(sizes, tokens, seed, data):
    """Gradients of the tables that learn against float64 written out; some rest; some tokens have weight 0."""
    hidden, head, targets, weights = problem(tokens, sum(sizes), 5, seed, supervised=0.7)
    resting = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    tables = [part.clone().requires_grad_(not rests) for part, rests in zip(head.detach().split(sizes), resting, strict=True)]
    with torch.no_grad():
        logits, first = aligned_like_a_gpu(tables, hidden)
        whole = torch.cat([logits[:, start : start + size] for start, size in zip(first, sizes, strict=False)], dim=1)
        torch.testing.assert_close(whole, hidden @ head.T, rtol=1e-12, atol=1e-12)
    loss, nll, correct = weighted_linear_cross_entropy(hidden, tables, targets, weights)
    loss.backward()
    expected = by_hand(hidden, head, targets, weights)
    torch.testing.assert_close(nll, expected[1], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(hidden.grad, expected[2], rtol=1e-11, atol=1e-12)
    for table, rests, wanted in zip(tables, resting, expected[3].split(sizes), strict=True):
        assert table.grad is None if rests else torch.allclose(table.grad, wanted, rtol=1e-11, atol=1e-12)
    assert torch.equal(correct, (weights != 0) & (hidden @ head.T).argmax(dim=1).eq(targets))


@pytest.mark.parametrize("kernel", ["torch", "triton"])
@pytest.mark.parametrize("sizes", [(1,), (63, 1, 65), (131,), (97, 34), (4500,)])
def test_odd_tables_in_float32_by_each_kernel_twice_with_the_same_bits(kernel, sizes):
    runs = []
    for _ in range(2):
        hidden, head, targets, weights = problem(9, sum(sizes), 24, seed=11, dtype=torch.float32)
        tables = [part.clone().requires_grad_() for part in head.detach().split(sizes)]
        loss, nll, correct = weighted_linear_cross_entropy(hidden, tables, targets, weights, kernel)
        loss.backward()
        runs.append((loss.detach(), nll, correct, hidden.grad, torch.cat([table.grad for table in tables])))
    assert all(map(torch.equal, *runs))
    _, nll, slope, head_slope = by_hand(hidden, head, targets, weights)
    for found, wanted in zip((runs[0][1], *runs[0][3:]), (nll, slope, head_slope), strict=True):
        assert (found.double() - wanted).abs().max() <= 5e-6 * max(float(wanted.abs().max()), 1e-3)


def test_where_one_call_can_the_gradient_of_the_head_is_added_up_in_its_place(monkeypatch):
    """As on a GPU: a product of bfloat16 matrices goes into the float32 gradient, unrounded, without a matrix beside it."""
    whole, calls = torch.addmm, []

    def in_float32(total, left, right, *, out_dtype, out):
        assert out is total and total.dtype == out_dtype == torch.float32 and left.dtype == torch.bfloat16
        assert max(left.stride()) % 64 == 0  # rows of logits
        calls.append(out.data_ptr())
        return whole(total, left.float(), right.float(), out=out)

    monkeypatch.setattr(torch, "addmm", in_float32)
    monkeypatch.setattr(cross_entropy, "chunk_tokens", lambda *_: 16)
    cross_entropy.adds_products.cache_clear()
    hidden, head, targets, weights = problem(64, 83, 16, seed=12, dtype=torch.float32, supervised=1.0)
    low = hidden.detach().bfloat16().requires_grad_()
    weighted_linear_cross_entropy(low, head, targets, weights)[0].backward()
    cross_entropy.adds_products.cache_clear()
    assert len(calls) == 5 and len(set(calls[1:])) == 1  # the trial, then each chunk into the same matrix
    expected = by_hand(low, head, targets, weights)[3]
    assert (head.grad.double() - expected).abs().max() <= 2e-2 * expected.abs().max()


def test_where_no_call_can_it_is_told_once_and_the_sum_is_plain():
    cross_entropy.adds_products.cache_clear()
    assert not cross_entropy.adds_products(torch.device("cpu"), torch.bfloat16, torch.float32)
    total, left, right = torch.ones(3, 2), torch.ones(3, 4).bfloat16(), torch.ones(4, 2).bfloat16()
    cross_entropy._add_product(total, left, right)
    assert torch.equal(total, torch.full((3, 2), 5.0)) and cross_entropy.adds_products.cache_info().misses == 1
