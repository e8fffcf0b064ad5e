"""How likely a model finds a sequence."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmpt.modality import Modality
from mmpt.vocabulary import MODALITIES, Vocabulary

if TYPE_CHECKING:  # a suite is checked before torch is loaded
    from torch import Tensor
    from transformers import PreTrainedModel

PACK = 4096
"""Tokens of the sequences that are read in one pass; a longer sequence goes alone."""
ROWS = 512
"""Tokens whose scores over the whole vocabulary are in memory at once."""


class Scores(NamedTuple):
    """Of each id of a sequence given those before it, the first left out, [length − 1]: ln p, float64, and whether it is the
    likeliest, bool."""

    log_probability: np.ndarray
    likeliest: np.ndarray


def token_scores(
    model: "PreTrainedModel", vocabulary: Vocabulary, sequences: Sequence[Sequence[int]], modality: Modality | None = None
) -> list[Scores]:
    """The scores of each sequence. With a `modality`, only its ids compete with each other; ln p of the others is NaN, and they
    are never the likeliest."""
    import torch

    found: list[Scores] = []
    start = 0
    while start < len(sequences):
        end, tokens = start + 1, len(sequences[start])
        while end < len(sequences) and tokens + len(sequences[end]) <= PACK:
            tokens += len(sequences[end])
            end += 1
        with torch.inference_mode():
            found += _of_pack(model, vocabulary, sequences[start:end], modality)
        start = end
    return found


def preferred(right: float, wrong: float) -> float:
    """1 where `right` is the larger, 0 where `wrong` is, a half where they are equal."""
    return 1.0 if right > wrong else 0.0 if right < wrong else 0.5


def area_under_curve(positive: np.ndarray, negative: np.ndarray) -> float:
    """The share of (positive, negative) pairs in which the positive score is larger, ties by half: the area under the ROC curve
    (Mann and Whitney 1947)."""
    if not len(positive) or not len(negative):
        return float("nan")
    ordered = np.sort(negative)
    below, upto = np.searchsorted(ordered, positive, "left"), np.searchsorted(ordered, positive, "right")
    return float((below + upto).mean() / 2 / len(negative))


def _of_pack(
    model: "PreTrainedModel", vocabulary: Vocabulary, sequences: Sequence[Sequence[int]], modality: Modality | None
) -> list[Scores]:
    import torch

    from mmpt.model.forward import hidden_states

    lengths = [len(sequence) for sequence in sequences]
    device = model.device
    ids = torch.tensor([[token for sequence in sequences for token in sequence]], device=device)
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0).to(device)
    # The sequences lie one after the other in one row; `edges` keep each from seeing the ones before it.
    edges = torch.tensor([0, *lengths]).cumsum(0)
    hidden = hidden_states(model, ids, positions, edges)[0]
    pieces = [
        _of_rows(model, vocabulary, hidden[start : start + ROWS], ids[0, start + 1 : start + ROWS + 1], modality)
        for start in range(0, len(hidden) - 1, ROWS)
    ]
    scores, likeliest = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True)) if pieces else (np.zeros(0),) * 2
    ends = [(low, max(low, high - 1)) for low, high in itertools.pairwise(edges.tolist())]
    return [Scores(scores[low:end], likeliest[low:end]) for low, end in ends]


def _of_rows(
    model: "PreTrainedModel", vocabulary: Vocabulary, hidden: "Tensor", targets: "Tensor", modality: Modality | None
) -> Scores:
    """The scores of `targets` [≤ rows] after the states `hidden` [rows, D]."""
    import torch
    from torch.nn import functional as F

    from mmpt.model.forward import head_tables

    # float64: the scores of thousands of tokens are summed, and equal sequences must tie.
    logits = torch.cat([F.linear(hidden[: len(targets)], table) for table in head_tables(model)], dim=-1).double()
    own = torch.ones(len(targets), dtype=torch.bool, device=targets.device)
    if modality is not None:
        # Ids of other modalities leave the softmax; a target of another one is moved into range, and its score thrown away below.
        low, high = vocabulary.ranges()[modality]
        own = torch.from_numpy(vocabulary.modality(targets.cpu().numpy()) == MODALITIES.index(modality)).to(targets.device)
        logits, targets = logits[:, low:high], (targets - low).clamp(0, high - low - 1)
    scores = logits.log_softmax(dim=-1)
    chosen = scores.gather(1, targets.unsqueeze(1))[:, 0]
    likeliest = own & (chosen == scores.amax(dim=-1))
    return Scores(torch.where(own, chosen, float("nan")).cpu().numpy(), likeliest.cpu().numpy())
