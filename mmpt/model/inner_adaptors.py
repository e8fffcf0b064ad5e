"""Inner adaptors: trained layers inside a frozen decoder (IAA, Wang et al. 2024, arXiv:2408.12902).

Behind each chosen decoder layer stands a copy of it, which learns; its change of the hidden states comes in by a gate that starts
at 0. Switched off, the decoder is bit for bit the frozen one: text alone costs nothing and loses nothing.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from mmpt.errors import CheckpointError, ConfigError
from mmpt.storage import published_folder, read_json, write_json

FORMAT = "mmpt-inner-adaptors/1"


class InnerAdaptors(nn.Module):
    """Adaptors of `model` behind the layers `places` (counted from 0), which are on until `switched_off`.

    `model` is frozen, and calls them while it runs; it does not hold them, so its own weights and their names stay as they are.
    Raises `ConfigError` where the model has no such layers.
    """

    def __init__(self, model: PreTrainedModel, places: Sequence[int]):
        super().__init__()
        layers = getattr(model.base_model, "layers", None)
        if not isinstance(layers, nn.ModuleList):
            raise ConfigError(f"inner adaptors: {type(model).__name__} has no list of layers")
        wrong = [place for place in places if not 0 <= place < len(layers)]
        if wrong or not places or len(set(places)) < len(places):
            raise ConfigError(f"inner adaptors: places {list(places)}, expected different ones from 0 to {len(layers) - 1}")
        self.places = tuple(places)
        model.requires_grad_(False)
        self.layers = nn.ModuleList(copy.deepcopy(layers[place]) for place in places).requires_grad_(True)
        self.gates = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in places)
        self.on = True
        self._hooks = [
            layers[place].register_forward_hook(self._hook(number), with_kwargs=True) for number, place in enumerate(places)
        ]

    def _hook(self, number: int):
        def after(layer: nn.Module, inputs: tuple, options: dict, output):
            if not self.on:
                return output
            hidden = output[0] if isinstance(output, tuple) else output
            # Keys and values of the decoder's own layers are what a cache holds: the adaptor attends to what it is given.
            own = {name: value for name, value in options.items() if name not in ("hidden_states", "past_key_values")}
            changed = self.layers[number](hidden, **own)
            changed = changed[0] if isinstance(changed, tuple) else changed
            mixed = hidden + self.gates[number].to(hidden.dtype) * (changed - hidden)
            return (mixed, *output[1:]) if isinstance(output, tuple) else mixed

        return after

    @contextmanager
    def switched_off(self) -> Iterator[None]:
        """The frozen decoder alone, inside."""
        before, self.on = self.on, False
        try:
            yield
        finally:
            self.on = before

    def remove(self) -> None:
        """The decoder forgets the adaptors."""
        for hook in self._hooks:
            hook.remove()

    def save(self, folder: Path) -> None:
        """Publish the places and the weights in `folder`."""
        with published_folder(folder, {"format": FORMAT}) as temporary:
            write_json(temporary / "config.json", {"places": list(self.places)})
            save_file({name: value.contiguous() for name, value in self.state_dict().items()}, temporary / "model.safetensors")

    @classmethod
    def load(cls, model: PreTrainedModel, folder: Path) -> "InnerAdaptors":
        """Saved adaptors, put into `model`. Raises `CheckpointError` where they do not fit it."""
        folder = Path(folder)
        try:
            adaptors = cls(model, read_json(folder / "config.json", CheckpointError)["places"])
        except (ConfigError, KeyError, TypeError) as problem:
            raise CheckpointError(f"{folder}/config.json: {problem}") from None
        try:
            adaptors.load_state_dict(load_file(folder / "model.safetensors"))
        except (RuntimeError, OSError, SafetensorError) as problem:
            adaptors.remove()
            raise CheckpointError(f"{folder}/model.safetensors does not fit the model ({problem})") from None
        return adaptors
