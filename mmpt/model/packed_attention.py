"""Packed attention inside transformers' models.

Importing this module registers the attention implementation `mmpt_packed` with transformers. The lengths of the documents travel
as the keyword `document_lengths` of the forward call, down to every attention layer, and so may `image_spans` (see
`mmpt.kernels.attention`):

    decoder(input_ids, position_ids=..., attention_mask=no_mask(device), document_lengths=(5, 3, 8))

Without the keyword (generation, a batch of padded rows) `mmpt_packed` is transformers' own SDPA with its ordinary masks. A model
that does not pass the keyword on fails loudly, because the empty mask of `no_mask` fits no other attention. The back end is
the one named by the keyword `attention_backend`, else by the module (see `mmpt.model.fused`), else `auto`.
"""

from typing import cast

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from mmpt.errors import ConfigError
from mmpt.kernels.attention import Backend, Spans
from mmpt.kernels.attention import packed_attention as attend
from mmpt.model.key_values import Append
from mmpt.model.sequence import SequenceGroup, heads_for_tokens, tokens_for_heads

NAME = "mmpt_packed"
BACKEND = "packed_attention_backend"
"""Attribute of an attention module that names its back end."""


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
    image_spans: Spans = (),
    attention_backend: Backend = "auto",
    sliding_window: int | None = None,
    sequence: SequenceGroup | None = None,
    key_values: Append | None = None,
    **kwargs,
) -> tuple[Tensor, None]:
    """Causal attention inside each document of a packed row; the signature is transformers' attention interface.

    query [1, heads, T, head_dim]; key, value [1, key_value_heads, T, head_dim], where key_value_heads divides heads;
    `document_lengths` sums to T; with a `sequence` group, among whose ranks the row is cut, to T × its size. With `key_values`,
    what is seen here is kept for the tokens to come, and the new tokens of running sequences see what was kept of them. Returns
    ([1, T, heads, head_dim], None). Raises `ConfigError` for an attention that softmax over q·k alone does not express (logit
    soft-capping, position biases).
    """
    if document_lengths is None:
        kwargs["sliding_window"] = sliding_window
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs)
    unsupported = [name for name in ("softcap", "position_bias", "s_aux") if kwargs.get(name) is not None]
    if unsupported:
        raise ConfigError(f"backbone: its attention uses {', '.join(unsupported)}, which packed training does not compute")
    if attention_backend == "auto":
        attention_backend = getattr(module, BACKEND, "auto")
    # Under autocast, norms leave queries and keys in float32. On a CPU the many small products are fastest in float32.
    dtype = value.dtype if query.is_cuda else torch.promote_types(value.dtype, torch.float32)
    given, (query, key, value) = value.dtype, (part.to(dtype) for part in (query, key, value))
    if sequence is not None:  # from here on this rank sees the whole pack, in its share of the heads
        query, key, value = heads_for_tokens(query, key, value, sequence)
    with torch.autocast(query.device.type, enabled=False):
        if key_values is None:
            found = attend(query, key, value, document_lengths, image_spans, sliding_window, dropout, scaling, attention_backend)
        else:
            found = _with_kept(
                key_values, cast(int, module.layer_idx), query, key, value, scaling, sliding_window, attention_backend
            )
    if sequence is not None:
        found = tokens_for_heads(found, sequence)
    return found.transpose(1, 2).to(given), None


def _with_kept(
    kept: Append, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None, backend: Backend
) -> Tensor:
    """Prompts attend to themselves and are kept; the tokens behind them attend to what was kept of theirs."""
    edge, parts = kept.prompt_tokens, []
    # Prompts come first in the row; behind them stands one token of each running sequence, whose past is in the tables alone.
    if edge:
        own_query, own_key, own_value = (part[:, :, :edge] for part in (query, key, value))
        kept.store(layer, own_key, own_value)
        parts.append(attend(own_query, own_key, own_value, kept.prompts, (), window, 0.0, scale, backend))
    if kept.rows:
        new_query, new_key, new_value = (part[:, :, edge:] for part in (query, key, value))
        parts.append(kept.attend(layer, new_query, new_key, new_value, scale, window))
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
