"""What a language model learns by default, of one pack, for tests of the model and of its gradients."""

from torch import Tensor

from mmpt.data.loading.packing import PackedBatch
from mmpt.model.balance import asks_for_balance
from mmpt.model.feature_inputs import FeatureInputs
from mmpt.model.forward import balance_term, causal_lm, decode, next_token_terms
from mmpt.model.sequence import SequenceGroup


def weighted_loss(
    model, batch: PackedBatch, modality_weights: Tensor, vocabulary, sequence: SequenceGroup | None = None,
    inputs: FeatureInputs | None = None,
):  # fmt: skip
    """`next_token_terms` of the pack, and `router_balance` where the backbone's configuration asks for it."""
    balanced = asks_for_balance(causal_lm(model))
    decoded = decode(model, batch, sequence, inputs, **({"output_router_logits": True} if balanced else {}))
    found = next_token_terms(model, batch, decoded, modality_weights, vocabulary)
    return {**found, "router_balance": balance_term(model, batch, decoded)} if balanced else found
