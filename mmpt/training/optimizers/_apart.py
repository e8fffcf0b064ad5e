"""AdamW for all parameters but those that are updated in another way."""

from collections.abc import Callable

import torch
from torch import nn


class AdamWBeside(torch.optim.AdamW):
    """AdamW for the groups that are not `apart`; a subclass updates these, one parameter after the other by `_update`, or by a
    `step` of its own around `rest`."""

    @torch.no_grad()
    def step(self, closure: Callable | None = None):
        """One update of every parameter; all ranks take part."""
        loss, groups = self.rest(closure), self.param_groups
        for group in groups:
            for parameter in group["params"] if group["apart"] else ():
                self._update(parameter, group)
        return loss

    def _update(self, weight: nn.Parameter, group: dict) -> None:
        raise NotImplementedError

    def rest(self, closure: Callable | None = None):
        """AdamW's step for the other groups: it must not see those that are apart, which are taken away meanwhile."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["apart"]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups
