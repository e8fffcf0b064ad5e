"""Model soups: weights of several checkpoints averaged (Wortsman et al. 2022, arXiv:2203.05482)."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from mmpt.chat import ChatFormat
from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.adaptation import merge_adapter
from mmpt.model.loading import FORMAT, load_parts
from mmpt.storage import check_folder, link_tree, published_folder
from mmpt.tokenizers.quiet import no_progress_bars
from mmpt.vocabulary import Vocabulary, check_same

TOKENIZERS = ("text_tokenizer", "speech_tokenizer", "image_tokenizer", "features")


def average(checkpoints: Sequence[Path], weights: Sequence[float] | None = None) -> tuple[PreTrainedModel, Vocabulary]:
    """The model whose every weight is Σ wᵢ·θᵢ / Σ wᵢ, computed in float64; adapters are merged first.

    Raises `ConfigError` on weights that do not fit, `CheckpointError` where the models are of different shapes, `VocabularyError`
    where their ids mean different things.
    """
    weights = [1.0] * len(checkpoints) if weights is None else list(weights)
    if not checkpoints or len(weights) != len(checkpoints) or min(weights) < 0 or sum(weights) <= 0:
        raise ConfigError(f"{len(checkpoints)} checkpoints and weights {weights}: expected one for each, 0 or more, not all 0")
    model, vocabulary = _plain(checkpoints[0])
    sums: dict[str, Tensor] = {}
    for checkpoint, weight in zip(checkpoints, weights, strict=True):
        found, own = (model, vocabulary) if checkpoint is checkpoints[0] else _plain(checkpoint)
        check_same(vocabulary, str(checkpoints[0]), own, str(checkpoint))
        for name, value in _shared_shapes(model, found, checkpoint).items():
            part = value.double() * (weight / sum(weights))
            sums[name] = sums[name] + part if name in sums else part
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(sums[name])
    return model, vocabulary


def greedy(checkpoints: Sequence[Path], loss: Callable[[PreTrainedModel, Vocabulary], float]) -> tuple[list[Path], float]:
    """The paper's greedy soup: the best alone first, then each further one, best first, that makes the average no worse.

    `loss` is on data held out. Returns what went in, and its loss.
    """
    alone = sorted((loss(*average([checkpoint])), number) for number, checkpoint in enumerate(checkpoints))
    chosen, best = [checkpoints[alone[0][1]]], alone[0][0]
    for _, number in alone[1:]:
        found = loss(*average([*chosen, checkpoints[number]]))
        if found <= best:
            chosen, best = [*chosen, checkpoints[number]], found
    return chosen, best


def save_soup(model: PreTrainedModel, vocabulary: Vocabulary, of: Sequence[Path], out: Path) -> None:
    """A checkpoint for inference, or to go on from; tokenizers are those of the first of `of`. Raises `ConfigError` where
    `out` is there already."""
    out = Path(out)
    if out.exists():
        raise ConfigError(f"{out}: it exists already")
    with published_folder(out, {"format": FORMAT, "step": 0, "soup": [str(path) for path in of]}) as folder:
        with no_progress_bars():
            model.save_pretrained(folder / "backbone")
        vocabulary.save(folder)
        if chat := ChatFormat.load(of[0]):
            chat.save(folder)
        for name in TOKENIZERS:
            if (of[0] / name).is_dir():
                link_tree(of[0] / name, folder / name)


def _plain(checkpoint: Path) -> tuple[PreTrainedModel, Vocabulary]:
    check_folder(checkpoint, FORMAT)
    model, vocabulary = load_parts(checkpoint)
    return (merge_adapter(model) if isinstance(model, PeftModel) else model).eval(), vocabulary


def _shared_shapes(model: PreTrainedModel, other: PreTrainedModel, name: Path) -> dict[str, Tensor]:
    wanted, found = model.state_dict(), other.state_dict()
    different = [key for key in wanted if key not in found or found[key].shape != wanted[key].shape]
    if different or len(wanted) != len(found):
        raise CheckpointError(f"{name}: a model of another shape ({', '.join(different[:3]) or 'more weights'})")
    return found
