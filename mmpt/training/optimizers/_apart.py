"""AdamW for all parameters but those that are updated in another way."""

from collections.abc import Callable

import torch


class AdamWBeside(torch.optim.AdamW):
    """AdamW, whose `rest` leaves out the groups that are `apart`; a subclass updates them."""

    def rest(self, closure: Callable | None = None):
        """AdamW's step for the other groups: it must not see those that are apart, which are taken away meanwhile."""
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["apart"]]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups
