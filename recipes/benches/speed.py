"""Useful tokens a second of a training step, against the trainers one would take instead; and what the parts around it cost.

    OMP_NUM_THREADS=1 python recipes/benches/speed.py

One small decoder, the same documents for everybody: as many image-caption pairs (34 codes and a short caption) as utterances
(12.5 codes a second, with their text) as interleaved pages, whose lengths are spread as such data's are. Peers: the Hugging Face
Trainer under DeepSpeed with batches padded to their longest document, and with its own packing (the collator that flattens);
and a bare PyTorch loop over the packs of mmpt. All train in this process, in turn, ROUNDS times; figures are medians of ratios
of CPU seconds, but for saving, which happens beside the training and is measured by the clock. Writes
recipes/results/training_speed.json.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ["DS_ACCELERATOR"] = "cpu"
import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import DataCollatorWithFlattening, Trainer, TrainerCallback, TrainingArguments
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from mmpt.config import parse_config
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.model.backbone import build_backbone
from mmpt.model.forward import decode, next_token_terms
from mmpt.results import Figure, report
from mmpt.training.background import background
from mmpt.training.checkpoint import save_checkpoint
from mmpt.training.config import TrainingConfig
from mmpt.training.distributed import World, world
from mmpt.training.engine import build_engine, parameter_groups
from mmpt.training.sources import open_loader
from mmpt.training.trainer import train_step
from mmpt.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parents[2]
VOCABULARY = Vocabulary(8192, "bench", image_codes=4096, codes_per_image=32, speech_codes=4096, speech_rate=12.5)
IDS = np.setdiff1d(np.arange(VOCABULARY.size), VOCABULARY.special("<|feature|>")).astype(np.uint16)
BACKBONE = {"model_type": "qwen3", "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 64, "tie_word_embeddings": False}  # fmt: skip
LONGEST, DOCUMENTS_A_STEP, PACKS_A_STEP = 1024, 8, 3  # 8 documents fill 3 packs
ROUNDS, STEPS, WARMUP = 5, 6, 2
SAVE_EVERY, SAVING_STEPS = 5, 20


def main() -> None:
    torch.set_num_threads(1)
    disable_progress_bar()
    set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder, world() as ranks:
        shards = written(Path(folder) / "tokens", 1200)
        figures = [*speed_figures(shards, Path(folder), ranks), *saving_figures(shards, Path(folder), ranks)]
    sys.exit(0 if report(figures, ROOT / "recipes" / "results" / "training_speed.json", ["accelerate"]) else 1)


def lengths(count: int) -> np.ndarray:
    """Tokens of each document: pairs, utterances of 2 to 17 s with 3 text tokens a second, pages of 870 tokens in the median."""
    draw = np.random.default_rng(0)
    pairs = 34 + np.clip(draw.poisson(15, count), 1, None)
    utterances = draw.uniform(2, 17, count) * (VOCABULARY.speech_rate + 3)
    pages = draw.lognormal(np.log(870), 0.5, count)
    every = np.stack([pairs, utterances, pages], axis=1).reshape(-1)[:count]
    return np.clip(every, 2, LONGEST).astype(int)


def written(folder: Path, count: int) -> TokenShards:
    draw = np.random.default_rng(1)
    with TokenShardWriter(folder, vocabulary=VOCABULARY, built={}) as writer:
        for number, length in enumerate(lengths(count)):
            ids = draw.choice(IDS, length)
            writer.write(TokenDocument(f"document-{number}", "bench", ids))
    return TokenShards(folder)


def settings(shards: TokenShards, out: Path, **changes) -> TrainingConfig:
    content = {
        "output": str(out), "data": [{"path": str(shards.folder)}], "backbone": {"config": BACKBONE}, "steps": 1000,
        "loader": {"pack_tokens": LONGEST, "packs_per_step": PACKS_A_STEP, "workers": 0}, "optimizer": {"learning_rate": 1e-3},
        "schedule": "constant", "precision": "float32", "deepspeed": {"zero_optimization": {"stage": 0}}, **changes,
    }  # fmt: skip
    return parse_config(content, TrainingConfig, "bench")


def speed_figures(shards: TokenShards, folder: Path, ranks: World) -> Iterator[Figure]:
    documents = [document.ids.astype(np.int64) for document in shards]
    order = np.random.default_rng(2).permutation(len(documents))
    shuffled = [documents[number] for number in order]
    runs = {
        "mmpt": lambda: mmpt_speed(shards, folder / "mmpt", ranks),
        "bare": lambda: bare_speed(shards, folder / "bare"),
        "padded": lambda: trainer_speed(shuffled, folder / "padded", padded, zero=True),
        "flattened": lambda: trainer_speed(shuffled, folder / "flattened", DataCollatorWithFlattening(), zero=False),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(run())
    ratios = {name: statistics.median(a / b for a, b in zip(found["mmpt"], found[name], strict=True)) for name in runs}
    yield Figure("useful tokens/s", statistics.median(found["mmpt"]))
    yield Figure("useful tokens/s / Trainer + DeepSpeed, padded", ratios["padded"], 2.5)
    yield Figure("useful tokens/s / Trainer, flattened", ratios["flattened"], 1.1)
    yield Figure("time / bare loop over the same packs", 1 / ratios["bare"], 1.05, at_most=True)
    yield Figure("share of a padded batch that is useful", useful_share(shuffled))


def useful_share(documents: list[np.ndarray]) -> float:
    sizes = np.array([len(ids) for ids in documents])
    batches = sizes[: len(sizes) // DOCUMENTS_A_STEP * DOCUMENTS_A_STEP].reshape(-1, DOCUMENTS_A_STEP)
    return float(sizes[: batches.size].sum() / (batches.max(axis=1) * DOCUMENTS_A_STEP).sum())


def mmpt_speed(shards: TokenShards, out: Path, ranks: World) -> float:
    config = settings(shards, out)
    engine = build_engine(build_backbone(config.backbone, VOCABULARY.size, 0), VOCABULARY, config, ranks)
    loader = iter(open_loader(config, [shards]))
    for step in range(1, WARMUP + 1):
        train_step(engine, next(loader), step, config, ranks)
    start, tokens = time.process_time(), 0
    for step in range(WARMUP + 1, WARMUP + STEPS + 1):
        tokens += train_step(engine, next(loader), step, config, ranks).amounts["tokens"]
    return tokens / (time.process_time() - start)


def bare_speed(shards: TokenShards, out: Path) -> float:
    """Loss, backward pass, clipping and AdamW, and nothing else."""
    config = settings(shards, out)
    model = build_backbone(config.backbone, VOCABULARY.size, 0)
    optimizer = torch.optim.AdamW(parameter_groups(model, config.optimizer), lr=1e-3, betas=(0.9, 0.95), fused=True)
    weights, loader = torch.ones(4), iter(open_loader(config, [shards]))

    def step(batches: list) -> int:
        total = sum(batch.weights.sum() for batch in batches)
        for batch in batches:
            terms = next_token_terms(model, batch, decode(model, batch), weights, VOCABULARY)
            (terms["next_token"].total / total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return sum(batch.input_ids.numel() for batch in batches)

    for _ in range(WARMUP):
        step(next(loader))
    start = time.process_time()
    tokens = sum(step(next(loader)) for _ in range(STEPS))
    return tokens / (time.process_time() - start)


class Documents(Dataset):
    def __init__(self, ids: list[np.ndarray]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, number: int) -> dict:
        return {"input_ids": self.ids[number].tolist(), "labels": self.ids[number].tolist()}


def padded(rows: list[dict]) -> dict:
    longest = max(len(row["input_ids"]) for row in rows)
    fill = {"input_ids": 0, "labels": -100, "attention_mask": 0}
    rows = [{**row, "attention_mask": [1] * len(row["input_ids"])} for row in rows]
    return {
        name: torch.tensor([row[name] + [value] * (longest - len(row["input_ids"])) for row in rows])
        for name, value in fill.items()
    }


class Clock(TrainerCallback):
    """CPU seconds between the ends of step `WARMUP` and the last."""

    def on_step_end(self, args, state, control, **rest) -> None:
        if state.global_step == WARMUP:
            self.start = time.process_time()
        if state.global_step == WARMUP + STEPS:
            self.seconds = time.process_time() - self.start


def trainer_speed(documents: list[np.ndarray], out: Path, collate, zero: bool) -> float:
    """The Hugging Face Trainer on `DOCUMENTS_A_STEP` documents a step, in order."""
    model = build_backbone(settings_backbone(), VOCABULARY.size, 0)
    model.set_attn_implementation("sdpa")
    options = {"zero_optimization": {"stage": 1}, "zero_allow_untested_optimizer": True, "train_micro_batch_size_per_gpu": "auto",
               "gradient_accumulation_steps": "auto", "gradient_clipping": "auto", "steps_per_print": 10**9}  # fmt: skip
    arguments = TrainingArguments(
        output_dir=str(out), max_steps=WARMUP + STEPS, per_device_train_batch_size=DOCUMENTS_A_STEP, learning_rate=1e-3,
        lr_scheduler_type="constant", weight_decay=0.1, adam_beta2=0.95, max_grad_norm=1.0, optim="adamw_torch_fused",
        logging_strategy="no", save_strategy="no", report_to="none", use_cpu=True, disable_tqdm=True, seed=0,
        train_sampling_strategy="sequential", deepspeed=options if zero else None,
    )  # fmt: skip
    clock = Clock()
    Trainer(model=model, args=arguments, train_dataset=Documents(documents), data_collator=collate, callbacks=[clock]).train()
    used = documents[WARMUP * DOCUMENTS_A_STEP : (WARMUP + STEPS) * DOCUMENTS_A_STEP]
    return sum(map(len, used)) / clock.seconds


def settings_backbone():
    from mmpt.model.backbone import BackboneConfig

    return BackboneConfig(config=BACKBONE)


def saving_figures(shards: TokenShards, folder: Path, ranks: World) -> Iterator[Figure]:
    """Seconds by the clock of steps with a checkpoint every `SAVE_EVERY`, against steps without, in turn."""
    config = settings(shards, folder / "saving", run={"keep": 1})
    engine = build_engine(build_backbone(config.backbone, VOCABULARY.size, 0), VOCABULARY, config, ranks)
    loader = open_loader(config, [shards])
    batches, step, ratios, waits = iter(loader), 0, [], []
    with background() as saving:
        for number in range(ROUNDS):
            spent = {}
            for save in (number % 2 == 0, number % 2 == 1):  # neither is always the first
                seconds = 0.0
                for _ in range(SAVING_STEPS):
                    given = next(batches)
                    start = time.perf_counter()
                    step += 1
                    train_step(engine, given, step, config, ranks)
                    if save and step % SAVE_EVERY == 0:
                        begun = time.perf_counter()
                        save_checkpoint(engine, step, loader.state_dict(), config, ranks, saving)
                        waits.append(time.perf_counter() - begun)
                    seconds += time.perf_counter() - start
                spent[save] = seconds
                saving.wait()
            ratios.append(spent[True] / spent[False])
    yield Figure(f"step time with a checkpoint every {SAVE_EVERY} steps / without", statistics.median(ratios), 1.05, at_most=True)
    yield Figure("seconds for which a checkpoint holds the training up", statistics.median(waits))


if __name__ == "__main__":
    main()
