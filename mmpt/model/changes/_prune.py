"""What matters in a decoder, and its weights without the rest."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedConfig, PreTrainedModel

from mmpt.model.changes._grow import LAYER
from mmpt.model.changes._shapes import INTO_NEURONS, NEURONS_OUT, reads_states, writes_states

TOKENS = 1024
"""Of a document that are read, at most."""


class Importance(NamedTuple):
    """float64: of each layer [layers] 1 − the mean cosine of the states before and behind it; of each hidden number [H] its mean
    size behind norms; of each layer's neurons [layers, I] their mean size."""

    layers: Tensor
    hidden: Tensor
    neurons: Tensor


@torch.no_grad()
def importance(model: PreTrainedModel, sequences: Iterable[Sequence[int]], samples: int) -> Importance | None:
    """Over the first `samples` sequences, of the ids that the model has; None where there are none."""
    settings, rows = model.config, cast(Any, model.get_input_embeddings()).weight.shape[0]
    found = Importance(
        *(torch.zeros(shape, dtype=torch.float64) for shape in (
            (settings.num_hidden_layers,), (settings.hidden_size,), (settings.num_hidden_layers, settings.intermediate_size)
        ))
    )  # fmt: skip
    layers, count = list(cast(Any, model.base_model).layers), 0
    before: list[Tensor] = []

    def enters(module, given) -> None:
        before.append(given[0][0])

    def leaves(number: int):
        def hook(module, given, output) -> None:
            state = output[0] if isinstance(output, tuple) else output
            cosine = cosine_similarity(before.pop(), state[0], dim=-1)
            found.layers[number] += (1 - cosine.double()).sum().cpu()

        return hook

    def sizes(total: Tensor):
        def hook(module, given) -> None:  # what a hook returns would stand in place of what is given
            total.add_(given[0][0].double().abs().sum(dim=0).cpu())

        return hook

    hooks = []
    for number, layer in enumerate(layers):
        hooks += [layer.register_forward_pre_hook(enters), layer.register_forward_hook(leaves(number))]
        hooks += [layer.mlp.down_proj.register_forward_pre_hook(sizes(found.neurons[number]))]
        hooks += [one.register_forward_pre_hook(sizes(found.hidden)) for one in (layer.self_attn.q_proj, layer.mlp.up_proj)]
    was_training = model.training
    model.eval()
    try:
        for sequence in islice(sequences, samples):
            ids = torch.tensor([token for token in sequence if token < rows][:TOKENS])
            if len(ids):
                from mmpt.model.forward import hidden_states  # it imports what loads backbones

                count += len(ids)
                edges = torch.tensor([0, len(ids)])
                hidden_states(model, ids[None].to(model.device), torch.arange(len(ids), device=model.device)[None], edges)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return found if count else None


def sliced(model: PreTrainedModel, found: Importance, settings: PreTrainedConfig) -> dict[str, Tensor]:
    """The weights of what matters most, in the order in which it stands."""
    layers = _largest(found.layers, settings.num_hidden_layers)
    hidden = _largest(found.hidden, settings.hidden_size)
    kept = {}
    for name, value in model.state_dict().items():
        match = LAYER.match(name)
        if match and int(match[2]) not in layers:
            continue
        if match and name.endswith((*INTO_NEURONS, *NEURONS_OUT)):
            neurons = _largest(found.neurons[int(match[2])], settings.intermediate_size)
            value = value[neurons] if name.endswith(INTO_NEURONS) else value[:, neurons]
        if reads_states(name) or "embed" in name:
            value = value[:, hidden]
        elif writes_states(name):
            value = value[hidden]
        kept[f"{match[1]}{layers.index(int(match[2]))}{match[3]}" if match else name] = value
    return kept


def _largest(values: Tensor, count: int) -> list[int]:
    """Places of the largest, in order; of equal ones the first."""
    return sorted(torch.sort(values, descending=True, stable=True).indices[:count].tolist())
