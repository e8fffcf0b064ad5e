"""Attention over one row of many whole documents, none of which sees another; one call, several back ends.

A token sees the tokens of its document up to itself, and, where `spans` mark pictures, all tokens of its own picture, also later
ones (bidirectional within a picture, as in Transfusion, Zhou et al. 2024, arXiv:2408.11039).

| back end | what runs | where |
|---|---|---|
| `documents` | one SDPA call for each document | anywhere; the best on a CPU, and for long documents on an H100 |
| `varlen` | torch's FlashAttention for rows of many lengths | GPUs from sm_80 on, half precision; no `spans`, no window |
| `xformers` | one call with `BlockDiagonalCausalMask` | GPUs for which xformers was built; no `spans` |
| `flex` | FlexAttention (arXiv:2412.05496) with a block mask, compiled | GPUs |
| `dense` | SDPA under the whole [T, T] mask: the reference | anywhere |
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor

Backend = Literal["auto", "documents", "varlen", "xformers", "flex", "dense"]
BACKENDS = ("documents", "varlen", "xformers", "flex", "dense")
AUTO = ("varlen", "xformers", "documents")
LONG = 4096
"""Tokens of a document, on average, from which one SDPA call for each is faster than one of FlashAttention 2 for all: SDPA has
faster kernels for an H100. Forward and backward, 16 heads of 128 (kernels/results/nvidia-h100-80gb-hbm3.json): one document of
8,192 tokens 2.7 against 4.2 ms, one of 32,768 27 against 47, ten in 8,192 tokens 2.5 against 1.6, some 0.2 ms a call."""
Spans = Sequence[tuple[int, int]]


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    spans: Spans = (),
    window: int | None = None,
    dropout: float = 0.0,
    scale: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """[1, heads, T, D] of `query` [1, heads, T, D], `key` and `value` [1, key_value_heads, T, D], where key_value_heads divides
    heads, all of one floating dtype.

    `lengths` of the documents sum to T. `spans`: (first, last + 1) of each picture in the row, apart from each other, each within
    one document. `window`: a token sees at most so many tokens back, itself among them (its own picture it sees whole). `scale`:
    of the logits, 1 / √D by default. Raises `ValueError` on shapes that do not fit, or a named back end that cannot run, with the
    reason.
    """
    total, groups = query.shape[2], query.shape[1] // max(1, key.shape[1])
    if query.shape[0] != 1 or sum(lengths) != total or min(lengths, default=1) < 1:
        raise ValueError(f"documents of {sum(lengths)} tokens in all, but the row is {tuple(query.shape)}")
    if groups * key.shape[1] != query.shape[1] or key.shape[2] != total or value.shape[1:3] != key.shape[1:3]:
        raise ValueError(f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)} do not fit together")
    _check(spans, lengths)
    narrow = None if window is None or window >= max(lengths, default=0) else window
    asked = query, bool(spans), dropout, narrow, value.shape[-1]
    if backend == "auto":
        order = ("documents", *AUTO) if _are_long(lengths, query) else AUTO
        backend = next(name for name in order if not why_not(name, *asked))
    elif reason := why_not(backend, *asked):
        raise ValueError(f"attention: {backend} cannot run here: {reason}")
    if groups > 1 and backend != "varlen":
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    attend = {"documents": _documents, "varlen": _varlen, "xformers": _xformers, "flex": _flex, "dense": _dense}[backend]
    return attend(query, key, value, tuple(lengths), tuple(spans), window, dropout, scale)


def _are_long(lengths: Sequence[int], query: Tensor) -> bool:
    return query.is_cuda and sum(lengths) >= LONG * len(lengths) and torch.cuda.get_device_capability(query.device) >= (9, 0)


def why_not(
    backend: str,
    query: Tensor,
    spans: bool = False,
    dropout: float = 0.0,
    window: int | None = None,
    value_width: int | None = None,
) -> str:
    """Why `backend` cannot attend for such queries, or "" where it can. `value_width`: of the values, where it is another one."""
    if backend not in BACKENDS:
        return f"there is no such back end, expected auto, {', '.join(BACKENDS)}"
    if backend in ("varlen", "xformers", "flex") and not query.is_cuda:
        return f"it runs on GPUs only, the tensors are on {query.device.type}"
    if backend in ("varlen", "xformers") and spans:
        return "its masks know no bidirectional spans"
    if backend == "varlen":
        return _varlen_refusal(query, window, value_width)
    if backend == "xformers":
        return _xformers_refusal(query.device, query.dtype, query.shape[-1], value_width, dropout > 0, window is not None)
    if backend == "flex" and dropout:
        return "it has no dropout"
    return ""


def reference(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    spans: Spans = (),
    window: int | None = None,
    scale: float | None = None,
) -> Tensor:
    """The same by its definition: softmax over all T logits of a row under the mask."""
    groups = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    logits = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scale is None else scale)
    seen = dense_mask(lengths, spans, window, query.device)
    return logits.masked_fill(~seen, float("-inf")).softmax(dim=-1) @ value


def dense_mask(lengths: Sequence[int], spans: Spans, window: int | None, device: torch.device | str = "cpu") -> Tensor:
    """Which token sees which, bool [T, T]."""
    documents, pictures = _numbers(lengths, spans, device)
    place = torch.arange(len(documents), device=device)
    back = place[:, None] - place[None, :]
    # A window counts the token itself; pictures are let in after it, so that it cuts none of them.
    seen = (back >= 0) if window is None else (back >= 0) & (back < window)
    seen |= (pictures[:, None] == pictures[None, :]) & (pictures[:, None] > 0)
    return seen & (documents[:, None] == documents[None, :])


def _numbers(lengths: Sequence[int], spans: Spans, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Of each token, the number of its document and of its picture (from 1; 0: none)."""
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    pictures = torch.zeros(sum(lengths), dtype=torch.int64)
    for number, (first, last) in enumerate(spans, start=1):
        pictures[first:last] = number
    return documents.to(device), pictures.to(device)


def _check(spans: Spans, lengths: Sequence[int]) -> None:
    before, edges = 0, set(torch.tensor([0, *lengths]).cumsum(0).tolist()) if spans else set()
    for first, last in spans:
        if not before <= first < last <= sum(lengths) or any(edge in edges for edge in range(first + 1, last)):
            raise ValueError(f"spans: {(first, last)} is empty, out of order, or in no single document of {tuple(lengths)}")
        before = last


def _documents(query, key, value, lengths, spans, window, dropout, scale) -> Tensor:
    rows = [part.split(lengths, dim=2) for part in (query, key, value)]
    outputs, first = [], 0
    for q, k, v in zip(*rows, strict=True):
        length = q.shape[2]
        inside = [(a - first, b - first) for a, b in spans if first <= a < first + length]
        if inside or (window is not None and length > window):
            # A mask of one document only; without one, SDPA takes its causal kernel, which skips the upper half.
            mask = dense_mask((length,), inside, window, q.device)
            outputs.append(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale))
        else:
            outputs.append(F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scale))
        first += length
    return torch.cat(outputs, dim=2)


def _dense(query, key, value, lengths, spans, window, dropout, scale) -> Tensor:
    mask = dense_mask(lengths, spans, window, query.device)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale)


def _varlen(query, key, value, lengths, spans, window, dropout, scale) -> Tensor:
    """The operator under `torch.nn.attention.varlen`, which of torch 2.10 takes no scale and no dropout. Fewer heads of keys and
    values than of queries are as they are."""
    # Not `part[0]`, whose gradient is a copy into zeros.
    rows = [part.squeeze(0).transpose(0, 1) for part in (query, key, value)]
    edges, longest = _edges(lengths, query.device), max(lengths)
    found = torch.ops.aten._flash_attention_forward(*rows, edges, edges, longest, longest, dropout, True, False, scale=scale)
    return found[0].transpose(0, 1).unsqueeze(0)


@lru_cache(maxsize=4)
def _edges(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """The same in every layer of a pack: copied to the device once."""
    with torch.inference_mode(False):  # an evaluation may ask first and a training next
        return torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)


def _varlen_refusal(query: Tensor, window: int | None, value_width: int | None) -> str:
    width = query.shape[-1]
    if query.dtype not in (torch.float16, torch.bfloat16):
        return f"it takes float16 and bfloat16, not {str(query.dtype).removeprefix('torch.')}"
    if width % 8 or width > 256 or value_width not in (None, width):
        return f"it takes heads of one width, a multiple of 8 up to 256, not {width} and {value_width or width}"
    if window is not None:
        return "it has no window"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this torch was built without FlashAttention"
    if torch.cuda.get_device_capability(query.device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or newer"
    return ""


@lru_cache(maxsize=64)
def _xformers_refusal(
    device: torch.device, dtype: torch.dtype, width: int, value_width: int | None, dropout: bool, window: bool
) -> str:
    """What xformers' own operators say to such tensors, forward and backward: that it can be imported says nothing of them, since
    its library may have been built for another torch."""
    try:
        from xformers.ops import fmha
        from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask
    except ImportError as problem:
        return f"xformers cannot be imported: {problem}"
    bias = BlockDiagonalCausalMask.from_seqlens([8])
    bias = bias.make_local_attention(4) if window else bias
    row, values = (torch.zeros(1, 8, 1, n, dtype=dtype, device=device) for n in (width, value_width or width))
    inputs = fmha.Inputs(query=row, key=row, value=values, attn_bias=bias, p=0.1 if dropout else 0.0)
    for name, operators in (("forward", fmha.ALL_FW_OPS), ("backward", fmha.ALL_BW_OPS)):
        refusals = [operator.not_supported_reasons(inputs) for operator in operators]
        if all(refusals):
            said = sorted({reason for reasons in refusals for reason in reasons})
            return f"none of xformers' {name} operators takes this: {'; '.join(said)}"
    return ""


def _xformers(query, key, value, lengths, spans, window, dropout, scale) -> Tensor:
    from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask

    bias = BlockDiagonalCausalMask.from_seqlens(list(lengths), device=query.device)
    if window is not None:
        bias = bias.make_local_attention(window)
    rows = [part.transpose(1, 2).contiguous() for part in (query, key, value)]
    from xformers.ops import memory_efficient_attention

    return memory_efficient_attention(*rows, attn_bias=bias, p=dropout, scale=scale).transpose(1, 2)


def _flex(query, key, value, lengths, spans, window, dropout, scale) -> Tensor:
    from torch.nn.attention.flex_attention import create_block_mask

    documents, pictures = _numbers(lengths, spans, query.device)
    reach = len(documents) if window is None else window

    def seen(batch, head, q, k):
        causal = (k <= q) & (q - k < reach)
        together = (pictures[q] == pictures[k]) & (pictures[q] > 0)
        return (documents[q] == documents[k]) & (causal | together)

    mask = create_block_mask(seen, 1, 1, len(documents), len(documents), device=query.device)
    # The log-sum-exp, which would come as the second of a tuple, is not asked for.
    return cast(Tensor, _compiled_flex()(query, key, value, block_mask=mask, scale=scale))


@lru_cache(maxsize=1)
def _compiled_flex():
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)
