"""Attention over one row of many whole documents, none of which sees another.

Importing this module registers the attention implementation `mmpt_packed` with transformers. The lengths of the documents travel
as the keyword `document_lengths` of the forward call, down to every attention layer:

    decoder(input_ids, position_ids=..., attention_mask=no_mask(device), document_lengths=(5, 3, 8))

Without the keyword (generation, a batch of padded rows) `mmpt_packed` is transformers' own SDPA with its ordinary masks. A model
that does not pass the keyword on fails loudly, because the empty mask of `no_mask` fits no other attention.

On a CPU each document is one causal SDPA call over a slice of the row: measured faster than a padded batch of documents at every
mixture of lengths (kernels/README.md), and exactly free of leaks. On a GPU it is one call of xformers' block-diagonal causal
kernel where that is installed.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mmpt.errors import ConfigError

NAME = "mmpt_packed"


def no_mask(device: torch.device) -> Tensor:
    """An empty 4-D mask: transformers takes a 4-D mask as it is, so no dense [T, T] mask is built beside `document_lengths`."""
    return torch.empty(1, 1, 0, 0, device=device)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    document_lengths: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Causal attention inside each document of a packed row; the signature is transformers' attention interface.

    query [1, heads, T, head_dim]; key, value [1, key_value_heads, T, head_dim], where key_value_heads divides heads;
    `document_lengths` sums to T. Returns ([1, T, heads, head_dim], None). Raises `ConfigError` for an attention that softmax over
    q·k alone does not express (logit soft-capping, position biases).
    """
    if document_lengths is None:
        kwargs["sliding_window"] = sliding_window
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    unsupported = [name for name in ("softcap", "position_bias", "s_aux") if kwargs.get(name) is not None]
    if unsupported:
        raise ConfigError(f"backbone: its attention uses {', '.join(unsupported)}, which packed training does not compute")
    if sum(document_lengths) != query.shape[2] or query.shape[0] != 1:
        raise ValueError(f"documents of {sum(document_lengths)} tokens in all, but the row is {tuple(query.shape)}")
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    # Under autocast, norms leave queries and keys in float32. On a CPU the many small products are fastest in float32.
    dtype = value.dtype if query.is_cuda else torch.promote_types(value.dtype, torch.float32)
    given, (query, key, value) = value.dtype, (part.to(dtype) for part in (query, key, value))
    with torch.autocast(query.device.type, enabled=False):
        if query.is_cuda and (kernel := _xformers()) is not None:
            return kernel(query, key, value, document_lengths, sliding_window, dropout, scaling).to(given), None
        rows = [part.split(document_lengths, dim=2) for part in (query, key, value)]
        outputs = [_causal(q, k, v, sliding_window, dropout, scaling) for q, k, v in zip(*rows, strict=True)]
    return torch.cat(outputs, dim=2).transpose(1, 2).to(given), None


def _causal(query: Tensor, key: Tensor, value: Tensor, window: int | None, dropout: float, scaling: float | None) -> Tensor:
    length = query.shape[2]
    if window is None or length <= window:
        return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=True, scale=scaling)
    band = torch.ones(length, length, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=band, dropout_p=dropout, scale=scaling)


def _xformers():
    """xformers' block-diagonal causal attention behind the same arguments, or None where its kernel is not installed."""
    try:
        from xformers.ops import memory_efficient_attention
        from xformers.ops.fmha.attn_bias import BlockDiagonalCausalMask
    except ImportError:
        return None

    def attention(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], window, dropout: float, scaling) -> Tensor:
        bias = BlockDiagonalCausalMask.from_seqlens(list(lengths), device=query.device)
        if window is not None:
            bias = bias.make_local_attention(window)
        rows = [part.transpose(1, 2).contiguous() for part in (query, key, value)]
        return memory_efficient_attention(*rows, attn_bias=bias, p=dropout, scale=scaling)

    return attention


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
