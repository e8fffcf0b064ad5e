"""Measure packed training steps through `mmpt.training` on a GPU; writes kernels/results/training/DEVICE.json.

    python kernels/training.py                 # all shapes
    python kernels/training.py tiny 0.6b-8192  # these

Random weights of a decoder's shape and random documents: tokens a second, the share of the device's bf16 peak (MFU) counted
causal within documents, over whole rows, and as 6 operations for each weight and token without attention; peak memory; and how
often a step has the host wait for the device. Each shape runs with the fused norm, rotation and activation (the
default on a GPU) and without. A shape that fails is named with its reason, the others still run, and the exit code is 1. The
file is written after each.
"""

import itertools
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from mmpt.scripts import script_parser

if __name__ == "__main__":
    parser = script_parser(__doc__)
    parser.add_argument("names", nargs="*", help="shapes to run, all by default")
    ASKED = parser.parse_args().names  # before what takes seconds to import

import numpy as np
import torch

from mmpt.config import parse_config
from mmpt.data.loading.packing import PackedBatch, pack
from mmpt.data.shards.tokens import TokenDocument
from mmpt.kernels.device import device_name, file_name
from mmpt.model.backbone import build_backbone
from mmpt.results import Figure, gather
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World, world
from mmpt.training.engine import build_engine
from mmpt.training.flops import peak_flops
from mmpt.training.trainer import StepResult, train_step
from mmpt.vocabulary import Vocabulary

STEPS, WARMUP = 6, 3
TINY = {"model_type": "qwen3", "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "tie_word_embeddings": False}  # fmt: skip
QWEN3_600M = {"model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
              "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "tie_word_embeddings": True,
              "max_position_embeddings": 40_960}  # fmt: skip
QWEN3_1700M = {**QWEN3_600M, "hidden_size": 2048, "intermediate_size": 6144}
SHAPES = {
    "tiny": (TINY, 1024, 3, 1024, 8192, {"zero_optimization": {"stage": 0}}),
    "0.6b-8192": (QWEN3_600M, 8192, 2, 8192, 151_669, {"zero_optimization": {"stage": 0}}),
    "0.6b-8192-bf16": (QWEN3_600M, 8192, 2, 8192, 151_669, {"zero_optimization": {"stage": 1}, "bf16": {"enabled": True}}),
    "0.6b-32768": (QWEN3_600M, 32_768, 1, 32_768, 151_669, {"zero_optimization": {"stage": 0}}),
    "1.7b-8192": (QWEN3_1700M, 8192, 2, 8192, 151_669, {"zero_optimization": {"stage": 0}}),
    "1.7b-32768": (QWEN3_1700M, 32_768, 1, 32_768, 151_669, {"zero_optimization": {"stage": 0}}),
}
CHECKPOINTED = ("0.6b-32768", "1.7b-8192", "1.7b-32768")
"""Shapes whose activations are computed again in the backward pass: they would not fit beside the weights."""
"""Of each: the decoder, tokens of a pack, packs of a step, the longest document, text ids, DeepSpeed's section."""


def main(asked: list[str]) -> None:
    if unknown := set(asked) - SHAPES.keys():
        sys.exit(f"{', '.join(sorted(unknown))}: expected {', '.join(SHAPES)}")
    failed: list[str] = []
    with world() as ranks:
        path = Path(__file__).parent / "results" / "training" / file_name(device_name(ranks.device))
        gather(each(asked or list(SHAPES), ranks, failed), path, ["triton"])
    sys.exit(bool(failed))


def each(names: list[str], ranks: World, failed: list[str]) -> Iterator[Figure]:
    """Figures of all shapes, those with the kernels first; what fails is added to `failed`."""
    for name, fused in itertools.product(names, (True, False)):
        try:
            yield from measured(name, fused, ranks)
        except Exception:  # the other shapes are worth their time on a lent device all the same
            failed.append(name)
            print(f"{name}{', fused' if fused else ''} failed", file=sys.stderr)
            traceback.print_exc()
        if ranks.device.type == "cuda":
            torch.cuda.empty_cache()


def measured(name: str, fused: bool, ranks: World) -> Iterator[Figure]:
    shape, tokens, packs, longest, text, deepspeed = SHAPES[name]
    vocabulary = Vocabulary(text, "bench", image_codes=8192, codes_per_image=32, speech_codes=4096, speech_rate=12.5)
    cuda = ranks.device.type == "cuda"
    with tempfile.TemporaryDirectory() as folder:
        content = {
            "output": folder, "data": [{"path": folder}], "backbone": {"config": shape}, "steps": 1000,
            "loader": {"pack_tokens": tokens, "packs_per_step": packs}, "optimizer": {"learning_rate": 1e-4},
            "schedule": "constant", "precision": "auto", "deepspeed": deepspeed,
            "activation_checkpointing": name in CHECKPOINTED,
            "kernels": dict.fromkeys(("norm", "rope", "swiglu"), "auto" if fused else "plain"),
        }  # fmt: skip
        config = parse_config(content, TrainingConfig, "kernels/training.py")
    model = build_backbone(config.backbone, vocabulary.size, 0)
    weights = sum(weight.numel() for weight in model.parameters())
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    engine = build_engine(model, vocabulary, config, ranks)
    draw = np.random.default_rng(0)
    batches = [[row(draw, vocabulary, tokens, longest) for _ in range(packs)] for _ in range(WARMUP + STEPS)]
    spent: list[tuple[float, StepResult]] = []
    for step, given_packs in enumerate(batches, start=1):
        start = time.perf_counter()
        result = train_step(engine, given_packs, step, config, ranks)
        if cuda:
            torch.cuda.synchronize()
        spent.append((time.perf_counter() - start, result))
    timed = sorted(spent[WARMUP:], key=lambda pair: pair[0])
    seconds, result = timed[len(timed) // 2]  # the step in the middle, and the operations of that very step
    where = f"{name}, {packs} packs of {tokens}{', fused' if fused else ''}"
    print(f"{where}: loss {spent[0][1].loss:.4f} to {spent[-1][1].loss:.4f}", flush=True)
    yield Figure(f"{where}: tokens/s", result.amounts["tokens"] / seconds)
    if peak := peak_flops(ranks.device):
        yield Figure(f"{where}: MFU, causal", result.amounts["flops"] / seconds / peak)
        yield Figure(f"{where}: MFU, whole rows", result.amounts["flops_full"] / seconds / peak)
        yield Figure(f"{where}: MFU, 6 for each weight and token", 6 * weights * result.amounts["tokens"] / seconds / peak)
    if cuda:
        yield Figure(f"{where}: peak memory, GB", torch.cuda.max_memory_allocated() / 1e9)
        yield Figure(f"{where}: waits of the host in a step", waits(lambda: train_step(engine, batches[0], 1, config, ranks)))


def waits(step: Callable[[], object]) -> int:
    """How often `step` has the host wait for the GPU, as torch tells it."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(one.message) for one in found)


def row(draw: np.random.Generator, vocabulary: Vocabulary, tokens: int, longest: int) -> PackedBatch:
    """A pack of exactly `tokens` tokens: pairs of a picture and its caption, utterances and pages, in turn, of random ids."""
    ids = np.setdiff1d(np.arange(vocabulary.size), vocabulary.special("<|feature|>"))
    documents, left = [], tokens
    while left:
        wish = (49, int(draw.uniform(30, 260)), int(draw.lognormal(np.log(870), 0.5)))[len(documents) % 3]
        length = min(left, longest, max(2, wish))
        documents.append(TokenDocument(f"document-{len(documents)}", "bench", draw.choice(ids, length).astype(np.uint32)))
        left -= length
    return pack(documents)


if __name__ == "__main__":
    main(ASKED)
