"""A published text model beside what learns."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import nn

States = Callable[[torch.Tensor], torch.Tensor]


class PublishedText(nn.Module):
    """States of a frozen text model, normalised and brought to `width` by a layer that learns: ids int64 [B, L] (0: padding) →
    float32 [B, N, width].

    The model is loaded where a caption is first read, and is no submodule: whoever only encodes and decodes images needs none.
    States of captions are kept, up to `cache_mib` of them in float16, those of the latest batches.
    """

    def __init__(self, load: Callable[[], tuple[nn.Module, States]], width: int, cache_mib: int):
        super().__init__()
        self._load, self._most = load, cache_mib << 20
        self._states: States | None = None
        self._model: list[nn.Module] = []  # in a list, so that it is no submodule
        self._kept: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._bytes = 0
        self.project = nn.LazyLinear(width)  # the model's width is known where it is loaded, or from saved weights

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows = [row[: int((row != 0).sum())] for row in ids]
        names = [row.cpu().numpy().tobytes() for row in rows]
        new = {name: row for name, row in zip(names, rows, strict=True) if name and name not in self._kept}
        if new:
            self._read(new)
        states = {name: self._kept[name] for name in names if name}
        nothing = torch.zeros(1, self.project.in_features if not states else next(iter(states.values())).shape[1])
        found = [states.get(name, nothing) for name in names]
        for name in states:  # the latest are the last to be forgotten
            self._kept.move_to_end(name)
        self._forget()
        longest = max(map(len, found))
        filled = torch.stack([nn.functional.pad(one.float(), (0, 0, 0, longest - len(one))) for one in found])
        return self.project(filled.to(ids.device))

    def _read(self, new: dict[bytes, torch.Tensor]) -> None:
        """Keep float16 [N, W] of the ids of captions."""
        rows = list(new.values())
        if self._states is None:
            model, self._states = self._load()
            self._model = [model.eval().requires_grad_(False).to(rows[0].device)]
        with torch.no_grad(), torch.autocast(rows[0].device.type, enabled=False):
            found = self._states(nn.utils.rnn.pad_sequence(rows, batch_first=True)).float()
            found = nn.functional.layer_norm(found, found.shape[-1:]).half().cpu()
        for name, row, states in zip(new, rows, found, strict=True):
            self._kept[name] = states[: len(row)].clone()
            self._bytes += self._kept[name].nbytes

    def _forget(self) -> None:
        while self._bytes > self._most and self._kept:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
