import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from mmpt.errors import ConfigError
from mmpt.model.entering import Memory, Remembered, brought, decoder_layers
from mmpt.model.entries.cross import Cross


class CrossLayers(nn.Module):
    """Gated cross-attention in front of layers of a decoder, which does not hold it: its own weights and their names stay as they
    are. Raises `ConfigError` where there are no such layers, or the heads do not divide the width."""

    def __init__(self, settings: Cross, model: PreTrainedModel):
        super().__init__()
        self.numbers = tuple(settings.decoder)
        decoder_layers(model, self.numbers)
        width = model.config.get_text_config().hidden_size
        if (settings.width or width) % settings.heads:
            raise ConfigError(f"enters: heads: {settings.heads}, expected a divisor of the decoder's {width}")
        self.layers = nn.ModuleList(GatedCross(width, settings.width or width, settings.heads) for _ in self.numbers)

    def attach(self, model: PreTrainedModel, kind: str) -> None:
        """Stand in front of the layers of `model`, for media of `kind`."""
        for place, layer in enumerate(decoder_layers(model, self.numbers)):
            layer.register_forward_pre_hook(self._hook(place, kind), with_kwargs=True)

    def _hook(self, place: int, kind: str):
        def before(layer: nn.Module, inputs: tuple, options: dict) -> tuple[tuple, dict]:
            media = brought(options)
            if media is None or kind not in media.memories or media.documents is None:
                return inputs, options
            hidden = inputs[0] if inputs else options["hidden_states"]
            changed = self.layers[place](hidden[0], media.memories[kind], media.documents, place).unsqueeze(0)
            # transformers' families differ in whether hidden states come by position or by name.
            return ((changed, *inputs[1:]), options) if inputs else (inputs, {**options, "hidden_states": changed})

        return before


class GatedCross(nn.Module):
    """Cross-attention and an MLP, each behind a norm and through a gate tanh(g) that starts at 0. Attention is dense, tokens by
    rows of views, with what is not to be seen masked."""

    def __init__(self, width: int, inner: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query, self.key_value = nn.Linear(width, inner, bias=False), nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * inner), nn.GELU(), nn.Linear(4 * inner, width))
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(self, hidden: Tensor, seen: tuple[Remembered, ...], documents: Tensor, layer: int) -> Tensor:
        """[T, H] of `hidden` [T, H], the tokens of `documents` int64 [T]; tokens that see no view stay as they are."""
        given, hidden = hidden.dtype, hidden.to(self.norm.weight.dtype)
        if not any(len(one.places) for one in seen):
            # Under ZeRO 3 every rank runs the same modules: here over a row that nobody sees.
            seen = (Remembered(Memory(hidden.new_zeros(1, 1, hidden.shape[1])), documents.new_full((1,), len(documents))),)
        places = torch.cat([one.places for one in seen])
        made = torch.cat([one.memory.of(layer, self._keys_and_values) for one in seen])  # [views, M, 2 · inner]
        # A place behind the last token is none: its document is that of no token.
        owners = torch.cat([documents, documents.new_full((1,), -1)])[places]
        tokens = torch.arange(len(documents), device=documents.device)
        mask = (owners == documents[:, None]) & (places <= tokens[:, None])
        any_seen = mask.any(dim=1, keepdim=True)
        # A softmax over nothing is NaN: tokens that see nothing look at everything, and what comes of it is left out.
        open_mask = (mask | ~any_seen).repeat_interleave(made.shape[1], dim=1)
        key, value = (self._heads(part) for part in made.flatten(0, 1).chunk(2, dim=-1))
        mixed = F.scaled_dot_product_attention(self._heads(self.query(self.norm(hidden))), key, value, attn_mask=open_mask)
        attention, mlp = self.gates.tanh()
        share = any_seen.to(hidden.dtype)
        hidden = hidden + share * attention * self.out(mixed[0].transpose(0, 1).flatten(1))
        return (hidden + share * mlp * self.mlp(hidden)).to(given)

    def _keys_and_values(self, rows: Tensor) -> Tensor:
        return self.key_value(rows.to(self.key_value.weight.dtype))

    def _heads(self, x: Tensor) -> Tensor:
        """[1, heads, N, inner / heads] of [N, inner]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(0, 1).unsqueeze(0)
