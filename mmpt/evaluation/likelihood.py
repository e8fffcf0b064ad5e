"""How likely a model finds a sequence."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

from mmpt.inference.load import MultimodalModel
from mmpt.model.forward import head_tables, hidden_states
from mmpt.vocabulary import MODALITIES

PACK = 4096
Modality = Literal["text", "image", "speech"]


@torch.inference_mode()
def log_probabilities(
    model: MultimodalModel, sequences: Sequence[Sequence[int]], modality: Modality | None = None
) -> list[np.ndarray]:
    """ln p of each id of each sequence given those before it, float64 [length − 1]: the first has none.

    With a `modality`, only its ids compete with each other, and the others have NaN.
    """
    found: list[np.ndarray] = []
    start = 0
    while start < len(sequences):
        end, tokens = start + 1, len(sequences[start])
        while end < len(sequences) and tokens + len(sequences[end]) <= PACK:
            tokens += len(sequences[end])
            end += 1
        found += _of_pack(model, sequences[start:end], modality)
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


def _of_pack(model: MultimodalModel, sequences: Sequence[Sequence[int]], modality: Modality | None) -> list[np.ndarray]:
    lengths = [len(sequence) for sequence in sequences]
    device = model.model.device
    ids = torch.tensor([[token for sequence in sequences for token in sequence]], device=device)
    positions = torch.cat([torch.arange(length) for length in lengths]).unsqueeze(0).to(device)
    hidden = hidden_states(model.model, ids, positions, torch.tensor([0, *lengths]).cumsum(0))[0]
    vocabulary, found, edge = model.tokenizer.vocabulary, [], 0
    for length in lengths:
        targets = ids[0, edge + 1 : edge + length]
        logits = torch.cat(
            [F.linear(hidden[edge : edge + length - 1], table) for table in head_tables(model.model)], dim=-1
        ).double()
        if modality is None:
            scores = logits.log_softmax(dim=-1).gather(1, targets.unsqueeze(1))[:, 0]
        else:
            low, high = vocabulary.ranges()[modality]
            own = torch.from_numpy(vocabulary.modality(targets.cpu().numpy()) == MODALITIES.index(modality)).to(device)
            within = (
                logits[:, low:high].log_softmax(dim=-1).gather(1, (targets - low).clamp(0, high - low - 1).unsqueeze(1))[:, 0]
            )
            scores = torch.where(own, within, float("nan"))
        found.append(scores.cpu().numpy())
        edge += length
    return found
