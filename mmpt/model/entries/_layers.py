from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from mmpt.model.connecting import place
from mmpt.model.entering import brought, decoder_layers


def replace_states(model: PreTrainedModel, numbers: Sequence[int]) -> None:
    """Let the layers of these numbers put the rows that are meant for them into their input."""
    for number, layer in zip(numbers, decoder_layers(model, numbers), strict=True):
        layer.register_forward_pre_hook(_replacing(number), with_kwargs=True)


def _replacing(number: int):
    def before(layer: nn.Module, inputs: tuple, options: dict) -> tuple[tuple, dict]:
        media = brought(options)
        for rows in () if media is None else media.layers:
            if rows.layer != number:
                continue
            # transformers' families differ in whether hidden states come by position or by name.
            if inputs:
                inputs = (place(inputs[0], rows.slots, rows.rows), *inputs[1:])
            else:
                options = {**options, "hidden_states": place(options["hidden_states"], rows.slots, rows.rows)}
        return inputs, options

    return before
