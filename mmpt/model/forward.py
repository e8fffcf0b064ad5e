"""From a pack to its weighted loss, through the decoder's last hidden states and without the matrix of all logits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy
from mmpt.model.balance import asks_for_balance, balance_loss
from mmpt.model.connecting import place
from mmpt.model.entering import KEYWORD, Entering
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.hollow import first_layers
from mmpt.model.new_rows import TwoTableHead
from mmpt.model.packed_attention import no_mask
from mmpt.model.sequence import SequenceGroup
from mmpt.tokenizers.terms import Term
from mmpt.vocabulary import MODALITIES, Vocabulary

HEAD_TOLERANCE, HALF_TOLERANCE = 1e-3, 5e-2
"""Largest difference of two ways to the same logits, relative to the largest of them; of weights in bfloat16, some last bits."""


Model = PreTrainedModel | PeftModel


def causal_lm(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The Hugging Face model itself, adapters still inside, where `model` is wrapped by peft."""
    return cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model


def head_tables(model: PreTrainedModel | PeftModel) -> tuple[Tensor, ...]:
    """The weight of the output head: one table [V, H], or that of the text and that of the new rows.

    Raises `ConfigError` where the head has a bias or is no plain linear layer.
    """
    head = causal_lm(model).get_output_embeddings()
    if type(head) is TwoTableHead:
        return head.weight, head.new
    if type(head) is not torch.nn.Linear or head.bias is not None:
        raise ConfigError(f"backbone: its head is {head}, expected a linear layer without bias and without an adapter")
    return (head.weight,)


def head_scale(model: PreTrainedModel | PeftModel) -> float:
    """What the model multiplies its logits by behind the head, or its hidden states before it (Granite, Cohere, MiniCPM)."""
    settings = causal_lm(model).config.get_text_config()
    if divisor := getattr(settings, "logits_scaling", None):
        return divisor if settings.model_type == "hyperclovax" else 1 / divisor
    return getattr(settings, "logit_scale", None) or 1.0


def hidden_states(
    model: PreTrainedModel | PeftModel,
    input_ids: Tensor,
    position_ids: Tensor,
    cu_seqlens: Tensor,
    features: Entering | tuple[Tensor, Tensor] | None = None,
    **attention,
) -> Tensor:
    """Last hidden states [1, T, H] of a packed row, times `head_scale`, so that logits are head · state: `input_ids` and
    `position_ids` [1, T], `cu_seqlens` [documents + 1].

    `features`: (positions int64 [n], rows [n, H]) of a connector, which stand where ids of any value are, and what else media
    bring (see `mmpt.model.entering`). `attention`:
    `image_spans`, `attention_backend` and `sequence`, see `mmpt.model.packed_attention`.
    """
    return _decode(model, input_ids, position_ids, cu_seqlens, features, **attention)[0]


def _decode(model, input_ids, position_ids, cu_seqlens, features=None, **options) -> tuple[Tensor, Any]:
    """(`hidden_states`, all that the decoder gives)."""
    given: dict[str, Any] = {"input_ids": input_ids}
    if features is not None:
        features = Entering(*features)
        given = {"inputs_embeds": place(causal_lm(model).get_input_embeddings()(input_ids), features.slots, features.rows)}
        if features.inside:
            given[KEYWORD] = features
    output = causal_lm(model).base_model(
        **given,
        position_ids=position_ids,
        attention_mask=no_mask(input_ids.device),
        use_cache=False,
        document_lengths=tuple(cu_seqlens.diff().tolist()),
        **options,
    )
    scale, states = head_scale(model), output.last_hidden_state
    return states if scale == 1.0 else states * scale, output


def packed_logits(
    model: PreTrainedModel | PeftModel, input_ids: Tensor, position_ids: Tensor, cu_seqlens: Tensor, **attention
) -> Tensor:
    """All logits [1, T, V] of a packed row; for checks and short inputs, since this is the matrix that the loss avoids."""
    hidden = hidden_states(model, input_ids, position_ids, cu_seqlens, **attention)
    return torch.cat([torch.nn.functional.linear(hidden, table) for table in head_tables(model)], dim=-1)


def target_modalities(targets: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Index into `MODALITIES` for each target, int64 of the same shape (text for the −100 of a document's end)."""
    edges = (vocabulary.special_offset, vocabulary.image_offset, vocabulary.speech_offset)
    return torch.stack([targets >= edge for edge in edges]).long().sum(dim=0)


def target_weights(batch: PackedBatch, modality_weights: Tensor, vocabulary: Vocabulary) -> Tensor:
    """[1, T] weight of each prediction: the document's own times that of the target's modality (`modality_weights` [4])."""
    return batch.weights * modality_weights[target_modalities(batch.targets, vocabulary)]


def supervise(batch: PackedBatch, modality_weights: Tensor, vocabulary: Vocabulary) -> tuple[PackedBatch, Tensor]:
    """(`batch` with its `supervised` tokens, the float64 sum of their weights); on the host, before it goes to a GPU, which then
    need not be waited for."""
    weights = target_weights(batch, modality_weights, vocabulary)[0]
    return replace(batch, supervised=torch.nonzero(weights != 0).squeeze(1)), weights.sum(dtype=torch.float64)


class Decoded(NamedTuple):
    """What a forward pass over a pack gives: the last `hidden` states [T, H] (see `hidden_states`), the logits [tokens, experts]
    of each layer's router where they were asked for, and a `zero` that ties weights without another use to the gradient;
    where they were asked for (`output_hidden_states`) also the states [T, H] before the first layer and after each, the last
    normed. `before`: −ln p [T] of the learned targets under the model as the run began, where an objective compares with it;
    `media`: what media brought into the pass."""

    hidden: Tensor
    routers: tuple[Tensor, ...] | None
    zero: Tensor | None
    layers: tuple[Tensor, ...] = ()
    before: Tensor | None = None
    media: Entering | None = None


def decode(
    model: PreTrainedModel | PeftModel,
    batch: PackedBatch,
    sequence: SequenceGroup | None = None,
    inputs: FeatureInputs | None = None,
    **options,
) -> Decoded:
    """The decoder's pass over a pack, or with a `sequence` group over this rank's stretch of one (see `mmpt.model.sequence.cut`).

    `inputs`: what makes rows of the pack's media. `options` go to the decoder.
    """
    zero = None
    if sequence is not None:
        options["sequence"] = sequence
    if inputs is not None:
        options["features"], zero = inputs(batch.features, batch.cu_seqlens)
    hidden, output = _decode(model, batch.input_ids, batch.position_ids, batch.cu_seqlens, **options)
    layers = getattr(output, "hidden_states", None) or ()
    routers, media = getattr(output, "router_logits", None), options.get("features")
    return Decoded(hidden[0], routers, zero, tuple(layer[0] for layer in layers), media=media)


def next_token_terms(
    model: PreTrainedModel | PeftModel,
    batch: PackedBatch,
    decoded: Decoded,
    modality_weights: Tensor,
    vocabulary: Vocabulary,
    weight: float = 1.0,
    factors: Tensor | None = None,
) -> dict[str, Term]:
    """`next_token`: Σ weight·nll in nats over Σ weight, differentiable; and what is told of the targets whose weight is above 0,
    by modality [4] in the order of `MODALITIES`: their unweighted `nll`, and how many were predicted right (`accuracy`).

    `modality_weights` [4] float32, on the pack's device; `factors` float32 [T], above 0, on the weights above the line alone.
    """
    targets, weights = batch.targets[0], target_weights(batch, modality_weights, vocabulary)[0]
    scaled = weights if factors is None else weights * factors
    loss_sum, nll, correct = weighted_linear_cross_entropy(
        for_head(decoded.hidden), head_tables(model), targets, scaled, kept=batch.supervised
    )
    if decoded.zero is not None:
        loss_sum = loss_sum + decoded.zero
    members = target_modalities(targets, vocabulary) == torch.arange(len(MODALITIES), device=targets.device).unsqueeze(1)
    members &= weights > 0
    counts = members.sum(dim=1)
    return {
        "next_token": Term(loss_sum, weights.sum(), weight),
        "nll": Term((members * nll).sum(dim=1), counts, 0.0),
        "accuracy": Term((members & correct).sum(dim=1), counts, 0.0),
    }


@torch.no_grad()
def token_losses(
    model: PreTrainedModel | PeftModel, batch: PackedBatch, decoded: Decoded, modality_weights: Tensor, vocabulary: Vocabulary
) -> tuple[Tensor, Tensor]:
    """(nll [T] in nats, 0 where nothing is learned; weights [T]) of a pack's targets."""
    weights = target_weights(batch, modality_weights, vocabulary)[0]
    hidden, tables = for_head(decoded.hidden), head_tables(model)
    found = weighted_linear_cross_entropy(hidden, tables, batch.targets[0], weights, kept=batch.supervised)
    return found.nll, weights


def for_head(hidden: Tensor) -> Tensor:
    """Hidden states in the dtype in which the head multiplies."""
    return hidden.to(torch.get_autocast_dtype(hidden.device.type)) if torch.is_autocast_enabled(hidden.device.type) else hidden


def balance_term(model: PreTrainedModel | PeftModel, batch: PackedBatch, decoded: Decoded, weight: float = 1.0) -> Term:
    """Tokens · the balancing loss of the pack's routers (see `mmpt.model.balance`), over tokens; differentiable."""
    tokens = batch.input_ids.numel()
    total = tokens * balance_loss(causal_lm(model), decoded.routers or ())
    return Term(total, total.new_full((), float(tokens)), weight, beside=True)


@contextmanager
def packed_rows_or_refused() -> Iterator[None]:
    """Turn whatever a model of transformers says to a packed row that it cannot take into a `ConfigError`: models differ in what
    they run into (masks of their own, other outputs, missing arguments), and none of that is a mistake in the code here."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as problem:
        said = (str(problem).strip().splitlines() or [""])[0]
        raise ConfigError(f"backbone: it does not take packed rows ({type(problem).__name__}: {said})") from None


@torch.no_grad()
def check_head(model: PreTrainedModel | PeftModel) -> None:
    """Raise `ConfigError` unless the model's own logits are head · `hidden_states`, or where it takes no packed rows at all.

    A backbone that caps its logits after the head, or scales them in a way unknown here, would train on another loss than it
    generates with. Of a model whose weights are still in their files (see `mmpt.model.hollow`) the first layers stand for all.
    """
    head_tables(model)
    asks_for_balance(causal_lm(model))
    if getattr(causal_lm(model).config.get_text_config(), "final_logit_softcapping", None):
        raise ConfigError("backbone: it caps its logits (final_logit_softcapping), which training does not compute")
    was_training = model.training
    model.eval()
    with first_layers(model), packed_rows_or_refused():
        tables = head_tables(model)
        length = min(8, sum(map(len, tables)))
        ids = torch.arange(length, device=tables[0].device).unsqueeze(0)
        own = causal_lm(model)(input_ids=ids, use_cache=False).logits.float()
        ours = packed_logits(model, ids, ids, torch.tensor([0, length])).float()
    model.train(was_training)
    difference = (own - ours).abs().max().item()
    tolerance = HALF_TOLERANCE if tables[0].dtype == torch.bfloat16 else HEAD_TOLERANCE
    if not difference <= tolerance * own.abs().max().item():
        raise ConfigError(f"backbone: its logits differ by {difference:.3g} from head · hidden state; it scales or caps them")
