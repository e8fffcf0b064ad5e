"""A speech tokenizer at toy size, and spoken words for it."""

from dataclasses import dataclass

import numpy as np
import torch
from examples_in_memory import speech_batches

from mmpt.tokenizers.speech.batches import SpeechExample
from mmpt.tokenizers.speech.config import SpeechConfig
from mmpt.tokenizers.speech.tokenizer import SpeechTokenizer
from mmpt.tokenizers.terms import Term
from mmpt.tokenizers.text import train_text_tokenizer

WORDS = {"do": 300, "re": 700, "mi": 1500, "fa": 3200}
STILL = {"speed": 0, "pitch": 0, "gain": 0, "tilt": 0, "noise": 0, "time_mask": 0, "mel_mask": 0}


@dataclass(frozen=True)
class Plan:
    batch_size: int = 4
    seed: int = 0


def config(encoder: dict | None = None, **changes) -> SpeechConfig:
    small = {
        "quantizer": {"kind": "ema", "codes": 16, "dim": 4, "restart_every": 5},
        "encoder": {"kind": "small", "dim": 32,
                    "heads": 2, "conv_blocks": 1, "layers_before": 1, "layers_pooled": 1, "layers_after": 1,
                    "text_layers": 1, **(encoder or {})},
        "decoder": {"dim": 32, "heads": 2, "layers": 1, "blocks": 1},
        "mels": 32, "window": 16, "augment": STILL,
    }  # fmt: skip
    return SpeechConfig(**{**small, **changes})


def example(text: str, seed: int = 0) -> SpeechExample:
    """A tone of 0.2 s for each word, silence between."""
    time = np.arange(3200) / 16000
    pieces = [np.concatenate([0.3 * np.sin(2 * np.pi * WORDS[word] * time), np.zeros(1600)]) for word in text.split()]
    samples = np.concatenate(pieces) + np.random.default_rng(seed).normal(0, 0.003, 4800 * len(pieces))
    return SpeechExample(samples.astype(np.float32), text)


EXAMPLES = [example(text, seed) for seed, text in enumerate(("do re mi", "fa do", "mi mi re", "re fa do"))]


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def build(**changes) -> SpeechTokenizer:
    torch.manual_seed(0)
    return SpeechTokenizer(config(**changes), train_text_tokenizer([e.text for e in EXAMPLES] * 4, 270))


def loss_of(terms: dict[str, Term]) -> torch.Tensor:
    return sum(term.weight * term.total / term.count.clamp_min(1) for term in terms.values() if term.weight)


def train(model: torch.nn.Module, config: SpeechConfig, steps: int, learning_rate: float = 3e-3) -> list[dict]:
    batches = speech_batches(EXAMPLES, config, Plan())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate, betas=(0.9, 0.98))
    losses = []
    model.train()
    for step in range(steps):
        torch.manual_seed(step)
        output = model.loss(batches(step), step / steps)
        optimizer.zero_grad(set_to_none=True)
        loss_of(output).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(
            {name: float(term.total.detach() / term.count.clamp_min(1)) for name, term in output.items() if term.weight}
        )
    model.eval()
    return losses
