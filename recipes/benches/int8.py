"""What `--quantization int8` takes and gives: bytes of weights, perplexity of a text, tokens a second.

    OMP_NUM_THREADS=1 python recipes/benches/int8.py MODEL

MODEL: a folder of a decoder of transformers, for instance SmolLM2-135M; two minutes of a processor. The text is docs/log.md of
this repository, of which no model has learned. Writes recipes/results/int8.json.
"""

import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from transformers import PreTrainedModel
from turns import ROOT, first, opened

from mmpt.inference.engine import Engine, Prompt
from mmpt.inference.settings import Settings
from mmpt.model.quantization import quantize
from mmpt.results import Figure, report
from mmpt.vocabulary import Vocabulary

PIECE, PIECES, ANSWER, ROUNDS = 512, 6, 40, 3
"""Tokens that are read at once, how many such, tokens of an answer, answers of each."""


def main() -> None:
    torch.set_num_threads(1)
    figures = [figure for dtype in (torch.float32, torch.bfloat16) for figure in compared(Path(sys.argv[1]), dtype)]
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "int8.json", ["torchao"]) else 1)


def compared(folder: Path, dtype: torch.dtype) -> Iterator[Figure]:
    """A decoder of `dtype`, and the same with its matrices in eight bits; answers are given in turn."""
    name, given = str(dtype).removeprefix("torch."), {kind: opened(folder) for kind in ("plain", "int8")}
    for kind, (model, _, _) in given.items():
        model.to(dtype)
        if kind == "int8":
            quantize(model, "int8")
    sizes = {kind: size(model) for kind, (model, _, _) in given.items()}
    losses = {kind: loss(model, text) for kind, (model, _, text) in given.items()}
    rates: dict[str, list[float]] = {kind: [] for kind in given}
    for number in range(ROUNDS):
        for kind in [*given][:: 1 if number % 2 else -1]:
            rates[kind].append(rate(*given[kind]))
    for kind in given:
        what = name if kind == "plain" else f"int8 over {name}"
        yield Figure(f"MiB of weights, {what}", sizes[kind] / 2**20)
        yield Figure(f"perplexity of {PIECE * PIECES} tokens, {what}", math.exp(losses[kind]))
        yield Figure(f"tokens/s of one answer, {what}", median(rates[kind]))
    # Embeddings and head stay as they are.
    yield Figure(
        f"weights in int8 over {name}", sizes["int8"] / sizes["plain"], 0.5 if dtype == torch.float32 else 0.65, at_most=True
    )
    yield Figure(f"perplexity in int8 over {name}", math.exp(losses["int8"] - losses["plain"]), 1.02, at_most=True)
    faster = median(b / a for a, b in zip(rates["plain"], rates["int8"], strict=True))
    yield Figure(f"tokens/s of one answer, int8 over {name}", faster)


def size(model: PreTrainedModel) -> int:
    """Bytes of all weights, each once."""
    held: dict[int, int] = {}
    for weight in model.parameters():
        parts = [weight.qdata, weight.scale] if hasattr(weight, "qdata") else [weight]
        held |= {part.data_ptr(): part.numel() * part.element_size() for part in parts}
    return sum(held.values())


@torch.inference_mode()
def loss(model: PreTrainedModel, text: list[int]) -> float:
    """Nats a token of the text, read in pieces."""
    found = []
    for piece in torch.tensor(text[: PIECE * PIECES]).view(PIECES, PIECE):
        logits = model(input_ids=piece[None], use_cache=False).logits[0, :-1].float()
        found.append(torch.nn.functional.cross_entropy(logits, piece[1:]).item())
    return sum(found) / PIECES


def rate(model: PreTrainedModel, vocabulary: Vocabulary, text: list[int]) -> float:
    """Tokens a second of one greedy answer, after its first."""
    never = ((vocabulary.special("<|end|>"), -100.0),)
    begun = time.perf_counter()
    waited, ids = first(
        Engine(model, vocabulary), Prompt(text[:50]), Settings(outputs=("text",), max_new_tokens=ANSWER, logit_bias=never)
    )
    return (len(ids) - 1) / (time.perf_counter() - begun - waited)


if __name__ == "__main__":
    main()
