"""A language model as something to train: packs in, the terms of its objectives out."""

from collections.abc import Iterable, Sequence

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.data.loading.packing import PackedBatch
from mmpt.errors import ConfigError
from mmpt.kernels.cross_entropy import weighted_linear_cross_entropy
from mmpt.model.balance import asks_for_balance
from mmpt.model.feature_inputs import FeatureInputs, named_weights
from mmpt.model.forward import causal_lm, decode, head_tables, supervise, target_modalities
from mmpt.model.scoring import target_losses
from mmpt.model.sequence import cut
from mmpt.tokenizers.terms import Share, Term, Trainable
from mmpt.training.distributed import World
from mmpt.training.flops import step_cost
from mmpt.training.objectives import Objective
from mmpt.training.trainer import StepResult
from mmpt.vocabulary import MODALITIES, Vocabulary

HELD_OUT = "held_out"


class Start(nn.Module):
    """A model as its run began: frozen, and asked for the losses of targets alone."""

    def __init__(self, model: PreTrainedModel | PeftModel, inputs: FeatureInputs | None = None) -> None:
        super().__init__()
        self.model, self.inputs = model.requires_grad_(False), inputs
        self.eval()

    @torch.no_grad()
    def forward(self, batch: PackedBatch) -> Tensor:
        """−ln p [T] of the targets that `pairs` and `rated` name, 0 elsewhere."""
        kept = [*(batch.pairs or ())[:2], *(batch.rated or ())[:1]]
        if not kept:
            return torch.zeros(batch.targets.shape[1], device=batch.targets.device)
        kept = torch.cat(kept)
        hidden = decode(self.model, batch, inputs=self.inputs).hidden
        return target_losses(hidden, head_tables(self.model), batch.targets[0], kept)


class LanguageModel(Trainable):
    """`model` keeps the Hugging Face names of its weights. `inputs`: what makes rows of a pack's media. `start`: a copy of both
    as the run began, where an objective compares with it.

    Its batches are packs. Raises `ConfigError` where the model asks for a balancing loss that is not among the objectives.
    """

    def __init__(
        self,
        model: PreTrainedModel | PeftModel,
        vocabulary: Vocabulary,
        objectives: Sequence[Objective],
        world: World,
        inputs: FeatureInputs | None = None,
        start: Start | None = None,
    ) -> None:
        super().__init__()
        self.start = start
        self.model, self.inputs = model, inputs
        self.vocabulary, self.world = vocabulary, world
        built = [objective.build(model, vocabulary, world.device) for objective in objectives]
        self.objectives = [one for one in built if one is not None]
        heads = {one.kind: head for one, made in zip(objectives, built, strict=True) if (head := getattr(made, "head", None))}
        self.heads = nn.ModuleDict(heads).to(world.device)
        self.asks = {name: value for one in self.objectives for name, value in one.asks.items()}
        if asks_for_balance(causal_lm(model)) and "output_router_logits" not in self.asks:
            raise ConfigError("objectives: router_balance is missing, and the backbone has output_router_logits: true")
        self.cost = step_cost(model)
        self.even = torch.ones(len(MODALITIES))

    def loss(self, batch: PackedBatch, progress: float) -> dict[str, Term]:
        decoded = decode(self.model, batch, self.world.sequence, self.inputs, **self.asks)
        if self.start is not None:
            decoded = decoded._replace(before=self.start(batch))
        found = (one.terms(self.model, batch, decoded, progress) for one in self.objectives)
        return {name: term for terms in found for name, term in terms.items()}

    def ready(self, batch: PackedBatch) -> PackedBatch:
        """A held-out pack, prepared on the host and sent to the device."""
        return supervise(batch, self.even, self.vocabulary)[0].to(self.world.device)

    def measure(self, batch: PackedBatch) -> dict[str, Term]:
        """`held_out` of a pack that is `ready`: Σ weight · nll and Σ weight, float64 [4] by the modality of the target, weighted
        by the documents alone."""
        hidden = decode(self.model, batch, self.world.sequence, self.inputs).hidden
        if torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        weights, targets = batch.weights[0], batch.targets[0]
        found = weighted_linear_cross_entropy(hidden, head_tables(self.model), targets, weights, kept=batch.supervised)
        modalities = target_modalities(targets, self.vocabulary)
        members = modalities == torch.arange(len(MODALITIES), device=targets.device).unsqueeze(1)
        own = members * weights.double()
        return {HELD_OUT: Term((own * found.nll.double()).sum(dim=1), own.sum(dim=1), 0.0)}

    def share(self, batches: list[PackedBatch]) -> Share:
        """Prepared on the host, and then sent to the device: nothing is waited for there. `amounts`: tokens, flops (as counted in
        `mmpt.training.flops`) and flops_full (with attention over whole rows)."""
        costs = [self.cost.of(batch) for batch in batches]
        read = [float(sum(batch.input_ids.numel() for batch in batches)), *map(sum, zip(*costs, strict=True))]
        sequence = self.world.sequence
        if sequence is not None:
            # Ranks that share a pack have all read it whole: the first of them counts it.
            read = read if sequence.rank == 0 else [0.0, 0.0, 0.0]
            batches = [cut(batch, sequence) for batch in batches]
        counts: dict[str, Tensor] = {}
        ready = []
        for batch in batches:
            for objective in self.objectives:
                batch, found = objective.prepare(batch)
                counts = {**counts, **{name: counts.get(name, 0.0) + count for name, count in found.items()}}
            ready.append(batch.to(self.world.device))
        names = tuple(", ".join(batch.document_ids) for batch in batches)
        return Share(ready, counts, dict(zip(("tokens", "flops", "flops_full"), read, strict=True)), names)

    def weights(self) -> Iterable[tuple[str, nn.Parameter]]:
        yield from named_weights(self.model, self.inputs)
        yield from ((f"objectives.{name}", weight) for name, weight in self.heads.named_parameters())

    def saved(self) -> nn.Module:
        return self.model

    def read_by_loss(self) -> tuple[Tensor, ...]:
        return head_tables(self.model) if self.start is None else (*head_tables(self.model), *head_tables(self.start.model))


def by_modality(result: StepResult, name: str) -> dict[str, float]:
    """The mean of a term that is told by modality, of those that have targets in the step."""
    if name not in result.means:
        return {}
    told = zip(MODALITIES, result.means[name].tolist(), result.counts[name].tolist(), strict=True)
    return {modality: mean for modality, mean, count in told if count}


def targets(result: StepResult) -> dict[str, int]:
    """How many targets of each modality the step had, of those present."""
    if "nll" not in result.counts:
        return {}
    told = zip(MODALITIES, result.counts["nll"].tolist(), strict=True)
    return {modality: int(count) for modality, count in told if count}
