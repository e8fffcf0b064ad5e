"""Model soups: weights of several checkpoints averaged (Wortsman et al. 2022, arXiv:2203.05482), or what each has learned since
the base that they come from made into one change of it (see `mmpt.model.merges`)."""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from mmpt.chat import ChatFormat
from mmpt.errors import CheckpointError, ConfigError
from mmpt.model.adaptation import merge_adapter
from mmpt.model.backbone import load_backbone
from mmpt.model.loading import FORMAT, load_parts
from mmpt.model.merges import Merge
from mmpt.model.prompts import Prompts
from mmpt.storage import check_folder, link_tree, published_folder
from mmpt.tokenizers.quiet import no_progress_bars
from mmpt.vocabulary import Vocabulary, check_same

MOST = 8
"""Checkpoints of which every subset is measured."""
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


def merged(
    base: str | Path,
    tuned: Sequence[str | Path],
    method: Merge,
    weights: Sequence[float] | None = None,
    seed: int = 0,
) -> tuple[PreTrainedModel, Vocabulary]:
    """`base` with what `tuned` have learned since, made into one change by `method`, in float64; adapters are merged first. All
    models are in memory at once.

    `base` and `tuned`: checkpoints, and published models (a folder or Hugging Face name); one of `tuned` is a checkpoint. The
    rows of new tokens, which a published model does not have and which mean nothing by halves, are the mean of those of the
    checkpoints.
    `weights`: 1 each by default; below 0 takes away. `seed`: of what a method drops at random. Raises `ConfigError` on weights
    that do not fit or no checkpoint, `CheckpointError` where the models are of different shapes, `VocabularyError` where their
    ids mean different things.
    """
    weights = [1.0] * len(tuned) if weights is None else list(weights)
    checkpoints = [one for one in tuned if _is_checkpoint(one)]
    if len(weights) != len(tuned):
        raise ConfigError(f"{len(tuned)} models and weights {weights}: expected one for each")
    if not checkpoints:
        raise ConfigError(f"{', '.join(map(str, tuned))}: expected a checkpoint among them, for the rows of its new tokens")
    model, vocabulary = _plain(Path(checkpoints[0]))
    start = _text_weights(base, model, vocabulary)
    others = [_text_weights(one, model, vocabulary) for one in tuned]
    new: dict[str, Tensor] = {}
    for one in checkpoints:
        for name, value in _plain(Path(one))[0].state_dict().items():
            rows = value[len(start[name]) :].double() / len(checkpoints) if value.ndim else value.double()
            new[name] = new[name] + rows if name in new else rows
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for name, value in model.state_dict().items():
            vectors = [other[name].double() - start[name].double() for other in others]
            whole = start[name].double() + method.change(vectors, weights)
            value.copy_(torch.cat([whole, new[name]]) if value.ndim else whole)
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


def subsets(checkpoints: Sequence[Path], loss: Callable[[PreTrainedModel, Vocabulary], float]) -> list[tuple[float, list[Path]]]:
    """(loss on data held out, members) of the average of every subset, the best first: with checkpoints that were trained on a
    part of the data each, what a mixture of these parts would give (Na et al. 2024, arXiv:2410.15661). Raises `ConfigError` where
    there are too many."""
    if len(checkpoints) > MOST:
        raise ConfigError(f"--subsets of {len(checkpoints)} checkpoints: expected {MOST} at most, {2**MOST - 1} averages")
    some = [list(one) for count in range(1, len(checkpoints) + 1) for one in combinations(checkpoints, count)]
    return sorted(((loss(*average(one)), one) for one in some), key=lambda found: found[0])


def save_soup(model: PreTrainedModel, vocabulary: Vocabulary, of: Sequence[Path], out: Path) -> None:
    """A checkpoint for inference, or to go on from; tokenizers are those of the first checkpoint among `of`. Raises `ConfigError`
    where `out` is there already."""
    out = Path(out)
    if out.exists():
        raise ConfigError(f"{out}: it exists already")
    first = next(path for path in of if _is_checkpoint(path))
    with published_folder(out, {"format": FORMAT, "step": 0, "soup": [str(path) for path in of]}) as folder:
        with no_progress_bars():
            model.save_pretrained(folder / "backbone")
        vocabulary.save(folder)
        if chat := ChatFormat.load(first):
            chat.save(folder)
        if prompts := Prompts.load(first):
            prompts.save(folder)
        for name in TOKENIZERS:
            if (first / name).is_dir():
                link_tree(first / name, folder / name)


def _plain(checkpoint: Path) -> tuple[PreTrainedModel, Vocabulary]:
    check_folder(checkpoint, FORMAT)
    model, vocabulary = load_parts(checkpoint)
    return (merge_adapter(model) if isinstance(model, PeftModel) else model).eval(), vocabulary


def _is_checkpoint(path: str | Path) -> bool:
    return (Path(path) / "vocabulary.json").is_file()


def _text_weights(path: str | Path, like: PreTrainedModel, vocabulary: Vocabulary) -> dict[str, Tensor]:
    """The weights of a checkpoint or a published model by their names in `like`, of its tables the rows of text alone."""
    if _is_checkpoint(path):
        model, own = _plain(Path(path))
        check_same(vocabulary, "the first checkpoint", own, str(path))
    else:
        model = load_backbone(path)
    wanted, found = like.state_dict(), dict(model.state_dict())
    ends = [cast(nn.Embedding, like.get_input_embeddings()), cast(nn.Linear, like.get_output_embeddings())]
    tables = {end.weight.data_ptr() for end in ends}
    for name in (name for name, value in wanted.items() if value.data_ptr() in tables and name in found):
        found[name] = found[name][: vocabulary.text_size]
        wanted[name] = wanted[name][: vocabulary.text_size]
    _require_shapes(wanted, found, path)
    return found


def _shared_shapes(model: PreTrainedModel, other: PreTrainedModel, name: Path) -> dict[str, Tensor]:
    wanted, found = model.state_dict(), other.state_dict()
    _require_shapes(wanted, found, name)
    return found


def _require_shapes(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], name: str | Path) -> None:
    different = [key for key in wanted if key not in found or found[key].shape != wanted[key].shape]
    if different or len(wanted) != len(found):
        raise CheckpointError(f"{name}: a model of another shape ({', '.join(different[:3]) or 'more weights'})")
