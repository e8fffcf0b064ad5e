"""Every implementation of every kernel passes kernels/check.py, and no planted error does."""

import importlib.util
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import torch

from mmpt.kernels import triton_rms_norm
from mmpt.kernels.attention import packed_attention
from mmpt.kernels.choose import choose, why_not_triton
from mmpt.kernels.launch import ceil_divide, power_of_two

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STRIPS = 16


def loaded(path: Path, name: str):
    specification = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def check(monkeypatch):
    """With fewer strips, since the interpreter takes milliseconds for each row."""
    monkeypatch.setattr(triton_rms_norm, "STRIPS", STRIPS)
    return loaded(ROOT / "kernels" / "check.py", "kernel_check")


def failures(rows) -> Iterator[str]:
    """Computed as they are asked for: whoever only asks whether there is one stops at the first."""
    return (name for name, value, tolerance in rows if not value <= tolerance)


def test_a_kernel_that_raises_fails_and_the_others_are_still_looked_at(check, monkeypatch, capsys):
    calls = []

    def broken(x):
        calls.append(x)
        raise RuntimeError("no such instruction")

    def cases(kernel, dtype, draw):
        x = torch.ones(2, dtype=dtype, device=check.DEVICE)
        yield check.Case("broken", broken, torch.neg, (x,), (0,))
        yield check.Case("negation", torch.neg, torch.neg, (x,), (0,))

    monkeypatch.setattr(check, "gradients", lambda case: ())
    rows = list(check.kernel_checks(cases))
    bad = list(failures(rows))
    assert bad and all(name.startswith("broken") for name in bad) and len(calls) == len(bad)
    assert sum(name.startswith("negation") for name, _, _ in rows) == 2 * len(bad)
    assert "no such instruction" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "power", "blocks"), [(1, 1, 1), (2, 2, 1), (3, 4, 1), (64, 64, 16), (65, 128, 17)])
def test_grids_hold_every_place_and_blocks_are_powers_of_two(number, power, blocks):
    assert power_of_two(number) == power and ceil_divide(number, 4) == blocks


def plant(check, monkeypatch, folder: Path, file: str, text: str, instead: str) -> None:
    """Let `check` find the file of a kernel with `text` replaced."""
    source = (ROOT / "mmpt" / "kernels" / f"{file}.py").read_text(encoding="utf-8")
    assert text in source
    (folder / f"{file}.py").write_text(source.replace(text, instead), encoding="utf-8")
    wrong = loaded(folder / f"{file}.py", f"mmpt.kernels.{file}")
    if hasattr(wrong, "STRIPS"):
        wrong.STRIPS = STRIPS
    monkeypatch.setitem(sys.modules, f"mmpt.kernels.{file}", wrong)
    if hasattr(check, file):
        monkeypatch.setattr(check, file, wrong)


MAKERS = (
    "cross_entropy_cases",
    "rms_norm_cases",
    "swiglu_cases",
    "rope_cases",
    "embedding_cases",
    "sparse_linear_cases",
)


@pytest.mark.parametrize("maker", MAKERS)
def test_every_kernel_passes(check, maker):
    rows = list(check.kernel_checks(getattr(check, maker)))
    assert {name.split("[")[1].split()[0] for name, _, _ in rows} >= {"torch", "triton"}
    assert not list(failures(rows))


def test_nearest_code_and_attention_pass(check):
    rows = [*check.nearest("torch"), *check.nearest("triton"), *check.attention_checks()]
    assert len(rows) > 20 and not list(failures(rows))


# (what is wrong, file, text, what stands there instead, which cases see it)
PLANTED = [
    (
        "residual of another row",
        "triton_rms_norm",
        "tl.load(residual + places",
        "tl.load(residual + places // 2",
        "rms_norm",
    ),
    (
        "columns beyond the width",
        "triton_rms_norm",
        "mask=inside, other=0.0)\n    if FUSED",
        "mask=inside, other=1.0)\n    if FUSED",
        "rms_norm",
    ),
    (
        "no gradient of the residual",
        "triton_rms_norm",
        "found += tl.cast(tl.load(beside",
        "found += 0 * tl.cast(tl.load(beside",
        "rms_norm",
    ),
    ("rows of a strip lost", "triton_rms_norm", "start += ROWS", "start += 2 * ROWS", "rms_norm"),
    ("weight without offset", "rms_norm", "(weight.to(scale.dtype) + offset)", "weight.to(scale.dtype)", "rms_norm"),
    ("mean over the wrong length", "rms_norm", "squares / rows.shape[1] + eps", "squares / rows.shape[0] + eps", "rms_norm"),
    ("another gate", "triton_swiglu", "tl.load(gate + places, mask", "tl.load(gate + places // 2, mask", "swiglu"),
    ("a block too short", "triton_swiglu", "inside = places < count", "inside = places < count - 1", "swiglu"),
    ("slope of silu", "swiglu", "silu_backward(grad * up, value)", "silu_backward(grad, value)", "swiglu"),
    ("halves mixed up", "triton_rope", "tl.load(cosines + half", "tl.load(cosines", "rope"),
    ("heads beyond the last", "triton_rope", "(head < heads) & (column", "(head < heads - 1) & (column", "rope"),
    ("the same way back", "rope", "cos, sin, -1, ctx", "cos, sin, 1, ctx", "rope"),
    ("id of the other table", "triton_embedding", "(index - old) * width", "(index - old) // 2 * width", "embedding"),
    ("last token of a row lost", "triton_embedding", "while place < end:", "while place < end - 1:", "embedding"),
    ("first token of a row lost", "triton_embedding", "while place < until:", "while place < until - 1:", "embedding"),
    ("a segment lost", "triton_embedding", "while segment < last:", "while segment < last - 1:", "embedding"),
    (
        "a segment of two rows",
        "triton_embedding",
        "segment, last = (place + LENGTH - 1) // LENGTH",
        "segment, last = place // LENGTH",
        "embedding",
    ),
    ("gradients of other tokens", "embedding", "torch.sort(flat, stable", "torch.sort(flat.flip(0), stable", "embedding"),
    (
        "last entry of a row lost",
        "triton_sparse_linear",
        "end = tl.load(starts + row + 1)",
        "end = tl.load(starts + row + 1) - 1",
        "sparse",
    ),
    ("another column", "triton_sparse_linear", "width + column[None, :]", "width + column[None, :] // 2", "sparse"),
    (
        "tokens beyond the last",
        "triton_sparse_linear",
        "token < count\n            slope",
        "token < count - 1\n            slope",
        "sparse",
    ),
    ("places of another row", "sparse_linear", "rows * width + columns[chosen]", "rows * 0 + columns[chosen]", "sparse"),
    ("gradient without scale", "sparse_linear", "grad_a = scale * ", "grad_a = ", "sparse"),
    ("target of another column", "triton_cross_entropy", "column == target", "column == target + 1", "cross_entropy"),
    (
        "ids beyond the vocabulary",
        "triton_cross_entropy",
        "inside, tl.math.exp(step), 0.0",
        "inside, tl.math.exp(step), 1.0",
        "cross_entropy",
    ),
    ("rows of another table", "cross_entropy", "(-len(table) % ALIGNMENT)", "0", "cross_entropy"),
    ("ids that are nobody's", "cross_entropy", "torch.finfo(out.dtype).min", "0.0", "cross_entropy"),
    ("a weight forgotten", "cross_entropy", "logits.mul_(scale.unsqueeze(1) / total)", "logits.mul_(1 / total)", "cross_entropy"),
]


@pytest.mark.parametrize(
    ("file", "text", "instead", "kernel"), [row[1:] for row in PLANTED], ids=[f"{r[1]}: {r[0]}" for r in PLANTED]
)
def test_a_planted_error_is_found(check, monkeypatch, tmp_path, file, text, instead, kernel):
    plant(check, monkeypatch, tmp_path, file, text, instead)
    (maker,) = (name for name in MAKERS if name.startswith(kernel))
    wrong = (row for row in check.kernel_checks(getattr(check, maker)) if row[1] != float("inf"))  # one that raises is no find
    assert any(failures(wrong))


@pytest.mark.parametrize(
    ("file", "text", "instead"),
    [
        ("nearest_code", "alpha=-2.0", "alpha=-1.9"),
        ("nearest_code", "nearest(x, codebook)", "nearest(x, codebook.flip(0))"),
        ("triton_nearest_code", 'mask=code < codes, other=float("inf")', "mask=code < codes, other=-1000.0"),
        ("triton_nearest_code", "start + place, index", "place, index"),
        ("attention", "(documents[:, None] == documents[None, :])", "(documents[:, None] >= documents[None, :])"),
        ("attention", "is_causal=True", "is_causal=False"),
        ("attention", "back < window", "back <= window"),
        ("attention", "inside = [(a - first, b - first)", "inside = [(a, b)"),
    ],
)
def test_a_planted_error_in_nearest_code_or_attention_is_found(check, monkeypatch, tmp_path, file, text, instead):
    definition = check.attention.reference  # stays right: it shares the mask with the back ends
    plant(check, monkeypatch, tmp_path, file, text, instead)
    monkeypatch.setattr(check.attention, "reference", definition)
    try:
        rows = chain(check.nearest("torch"), check.nearest("triton"), check.attention_checks())
        found = any(failures(rows))
    except (ValueError, IndexError, RuntimeError):  # an index out of range is found too
        return
    assert found


def test_a_kernel_that_cannot_run_says_why(monkeypatch):
    x = torch.zeros(2)
    with pytest.raises(ValueError, match="bfloat16 wrongly"):
        choose("triton", x.bfloat16())
    with pytest.raises(ValueError, match="not float64"):
        choose("triton", x.double())
    with pytest.raises(ValueError, match="expected auto, torch or triton"):
        choose("cuda", x)
    monkeypatch.delenv("TRITON_INTERPRET")
    assert "TRITON_INTERPRET=1 is not set" in why_not_triton(x) and choose("auto", x) == "torch"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": (4,)}, "documents of 4 tokens"),
        ({"lengths": (3, 2), "spans": ((2, 4),)}, "in no single document"),
        ({"lengths": (5,), "spans": ((2, 4), (3, 5))}, "out of order"),
        ({"lengths": (5,), "backend": "xformers"}, "GPUs only"),
        ({"lengths": (5,), "backend": "flash"}, "no such back end"),
    ],
)
def test_attention_that_cannot_be_computed_says_why(options, message):
    x = torch.zeros(1, 2, 5, 4)
    with pytest.raises(ValueError, match=message):
        packed_attention(x, x, x, **options)
