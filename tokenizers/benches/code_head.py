"""What codes say of a picture, by a head that learns it from captions: the same for whatever tokenizer gave the codes."""

import copy
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mmpt.evaluation.metrics.retrieval import picture_text_recalls
from mmpt.layers.attention import blocks
from mmpt.layers.positions import table
from mmpt.tokenizers.image.captions import TextTower
from mmpt.tokenizers.image.config import CaptionConfig
from mmpt.tokenizers.image.losses import contrastive_loss

KS = (1, 5, 10)
BATCH, LOOK, PATIENCE, HELD_BACK = 64, 50, 8, 10
"""Pictures of a step; steps between two looks at what is held back; looks without gain after which it ends; every so many-th of
the training pictures is held back."""


class CodeHead(nn.Module):
    """Two transformer blocks over the codes, each its vector in its tokenizer's codebook and a learned one, and a text tower of
    the specification's captions: compared as CLIP does (Radford et al. 2021, arXiv:2103.00020)."""

    def __init__(self, codebook: np.ndarray, queries: int, captions: CaptionConfig, width: int = 128) -> None:
        super().__init__()
        book = torch.from_numpy(codebook).float()
        self.register_buffer("codebook", (book - book.mean(dim=0)) / book.std().clamp_min(1e-6))
        self.of_vector = nn.Linear(book.shape[1], width)
        self.of_code = nn.Embedding(len(book), width)
        nn.init.normal_(self.of_code.weight, std=0.02)
        self.places = table(queries, width)
        self.blocks = blocks(2, width, 4, dropout=0.1)
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, captions.dim))
        self.text = TextTower(captions, 0, 1)
        self.scale = nn.Parameter(torch.tensor([2.66]))

    def pictures(self, codes: torch.Tensor) -> torch.Tensor:
        """[B, dim] of codes [B, queries]."""
        x = self.of_vector(F.embedding(codes, self.codebook)) + self.of_code(codes) + self.places
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean(dim=1))

    def texts(self, ids: torch.Tensor) -> torch.Tensor:
        """[B, dim] of words [B, L]."""
        return self.text(ids)[0]


def recalls_by_head(
    codebook: np.ndarray,
    known: np.ndarray,
    known_names: Sequence[str],
    shown: np.ndarray,
    names: Sequence[str],
    captions: CaptionConfig,
    seconds: float,
    seed: int,
) -> dict[str, float]:
    """R@k, held-out codes `shown` [n, queries] against `names`, by a head trained on `known` codes and their names: for `seconds`
    of this process at most, or until what is held back of them is found no better, and as it was when that was found best."""
    torch.manual_seed(seed)
    head, random = CodeHead(codebook, known.shape[1], captions), np.random.default_rng(seed)
    ids, codes = _ids(known_names, captions), torch.from_numpy(known)
    back = np.arange(0, len(known), HELD_BACK)
    learned = np.setdiff1d(np.arange(len(known)), back)
    optimizer = torch.optim.AdamW(head.parameters(), 1e-3, weight_decay=0.05)
    best, state, waited, step, begin = -1.0, copy.deepcopy(head.state_dict()), 0, 0, time.process_time()
    while time.process_time() - begin < seconds and waited < PATIENCE:
        rows = random.choice(learned, min(BATCH, len(learned)), replace=False)
        head.train()
        loss = contrastive_loss(head.pictures(codes[rows]), head.texts(ids[rows]), ids[rows], head.scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        if step % LOOK == 0:
            found = _recalls(head, known[back], [known_names[i] for i in back], captions)["R@mean"]
            waited = 0 if found > best else waited + 1
            if found > best:
                best, state = found, copy.deepcopy(head.state_dict())
    head.load_state_dict(state)
    return _recalls(head, shown, names, captions)


@torch.inference_mode()
def _recalls(head: CodeHead, codes: np.ndarray, names: Sequence[str], captions: CaptionConfig) -> dict[str, float]:
    head.eval()
    rows = (head.pictures(torch.from_numpy(codes)), head.texts(_ids(names, captions)))
    pictures, texts = (F.normalize(one, dim=-1).numpy() for one in rows)
    return picture_text_recalls(pictures, texts, names, KS)


def _ids(names: Sequence[str], captions: CaptionConfig) -> torch.Tensor:
    rows = np.zeros((len(names), captions.words), dtype=np.int64)
    for row, name in zip(rows, names, strict=True):
        found = captions.encoder.ids(name, captions)
        row[: len(found)] = found
    return torch.from_numpy(rows)
