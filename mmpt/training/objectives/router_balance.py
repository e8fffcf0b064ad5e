"""Even routers of a mixture of experts."""

from typing import TYPE_CHECKING

from mmpt.training.objectives import Objective

if TYPE_CHECKING:
    import torch

    from mmpt.training.objectives import Built, Model
    from mmpt.vocabulary import Vocabulary


class RouterBalance(Objective):
    """How unevenly routers spread tokens, Σ tokens · balance ÷ Σ tokens over the packs of a step, where the backbone's
    configuration says `output_router_logits: true`, times its `router_aux_loss_coef` (Fedus et al. 2021, Switch Transformers,
    arXiv:2101.03961, equation 4)."""

    def build(self, model: "Model", vocabulary: "Vocabulary", device: "torch.device") -> "Built | None":
        from mmpt.model.balance import asks_for_balance
        from mmpt.model.forward import causal_lm
        from mmpt.training.objectives._router_balance import BuiltRouterBalance

        return BuiltRouterBalance(self.weight) if asks_for_balance(causal_lm(model)) else None
