"""Tiny language models, shards and settings of runs, for tests of training."""

from pathlib import Path

import numpy as np

from mmpt.config import merged, parse_config
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.training.config import TrainingConfig
from mmpt.vocabulary import Vocabulary

VOCABULARY = Vocabulary(40, "letters", image_codes=8, codes_per_image=2, speech_codes=10, speech_rate=25.0)
IDS = np.setdiff1d(np.arange(VOCABULARY.size), VOCABULARY.special("<|feature|>")).astype(np.uint16)
BACKBONE = {"model_type": "qwen3", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 8, "tie_word_embeddings": True}  # fmt: skip


EXPERTS = {"model_type": "mixtral", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2,
           "num_key_value_heads": 1, "num_local_experts": 4, "num_experts_per_tok": 2, "output_router_logits": True,
           "router_aux_loss_coef": 0.5}  # fmt: skip


def write_shards(folder: Path, documents: int = 60, vocabulary: Vocabulary = VOCABULARY) -> None:
    draw = np.random.default_rng(0)
    with TokenShardWriter(folder, vocabulary=vocabulary, built={}) as writer:
        for number in range(documents):
            ids = draw.choice(IDS, draw.integers(3, 20))
            weights = draw.choice([0.0, 1.0, 2.0], len(ids)).astype(np.float32)
            writer.write(TokenDocument(f"document-{number}", "test", ids, weights))


def settings(folder: Path, name: str, stage: int, **changes) -> dict:
    """The settings of a run, with `changes` section by section."""
    base = {
        "output": str(folder / name), "data": [{"path": str(folder / "data")}], "steps": 6,
        "loader": {"pack_tokens": 48, "packs_per_step": 4}, "optimizer": {"learning_rate": 0.02}, "schedule": {"warmup_steps": 2},
        "precision": "float32",
        "run": {"save_every": 2, "keep": 2, "log_every": 1}, "objectives": objectives(image=0.5),
        "deepspeed": {"zero_optimization": {"stage": stage}},
    }  # fmt: skip
    return merged(base, changes)


def objectives(**weights: float) -> list:
    return [{"kind": "next_token", "weights": weights}, "router_balance"]


def pretrain(folder: Path, name: str, stage: int, **changes) -> TrainingConfig:
    return parse_config({"backbone": {"config": BACKBONE}, **settings(folder, name, stage, **changes)}, TrainingConfig, name)
