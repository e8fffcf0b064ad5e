"""The small text models beside the image tokenizer while it is trained."""

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.layers.attention import blocks
from mmpt.layers.positions import table
from mmpt.tokenizers.image.config import CaptionConfig
from mmpt.tokenizers.image.text_encoders._published import PublishedText
from mmpt.tokenizers.image.text_encoders._writer import PublishedWriter


class TextTower(nn.Module):
    """Reads a caption into one vector to compare with images, and a prediction of what each image query will hold."""

    def __init__(self, config: CaptionConfig, queries: int, code_dim: int):
        super().__init__()
        self.words = config.encoder.build(config)
        self.positions = table(config.words, config.width)
        self.slots = table(1 + queries, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        self.norm = nn.LayerNorm(config.width)
        self.summary = nn.Linear(config.width, config.dim)
        self.prediction = nn.Linear(config.width, code_dim)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`ids` [B, L] (0: padding) → summary [B, dim] and predictions [B, queries, code_dim]."""
        words, told = self.read(ids)
        x = torch.cat([self.slots.expand(len(ids), -1, -1), words], dim=1)
        seen = torch.cat([ids.new_ones(len(ids), len(self.slots), dtype=torch.bool), told], dim=1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, seen)
        x = self.norm(x[:, : len(self.slots)])
        return self.summary(x[:, 0]), self.prediction(x[:, 1:])

    def prepare(self) -> None:
        """Load a published encoder, whose width the first layer takes over. Raises `ConfigError` where it cannot be loaded."""
        if isinstance(self.words, PublishedText):
            self.read(torch.ones(1, 1, dtype=torch.long))

    def read(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The encoder's states of `ids` [B, L] with their positions, [B, N, width], and which of them mean something, [B, N]."""
        words = self.words(ids)
        # An encoder may give one state for a whole caption.
        return words + self.positions[: words.shape[1]], (ids != 0)[:, : words.shape[1]]


class CaptionDecoder(nn.Module):
    """Reads the code vectors of an image and writes its caption, word by word (the captioning loss of BLIP, Li et al. 2022)."""

    mask: torch.Tensor

    def __init__(self, config: CaptionConfig, queries: int, code_dim: int):
        super().__init__()
        self.buckets = config.buckets
        self.codes = nn.Linear(code_dim, config.width)
        self.words = nn.Embedding(config.buckets, config.width, padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.02)
        self.positions = table(queries + config.words, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        self.out = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, config.buckets))
        mask = torch.ones(queries + config.words, queries + config.words, dtype=torch.bool).tril()
        mask[:queries, :queries] = True  # codes see each other, words see codes and the words before
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, vectors: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of words `ids` [B, L] (0: padding) given `vectors` [B, queries, code_dim] and the words before."""
        ids = torch.where(ids == 0, 0, (ids - 1) % (self.buckets - 1) + 1)  # those of a published tokenizer may be more
        length = vectors.shape[1] + ids.shape[1] - 1
        x = torch.cat([self.codes(vectors), self.words(ids[:, :-1])], dim=1) + self.positions[:length]
        for block in self.blocks:
            x = block(x, self.mask[:length, :length])
        logits = self.out(x[:, vectors.shape[1] - 1 :]).float()
        targets = ids.masked_fill(ids == 0, -100)
        total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        return total / (ids != 0).sum().clamp_min(1)


def caption_writer(config: CaptionConfig, queries: int, code_dim: int, prepared: bool) -> CaptionDecoder | PublishedWriter:
    """What writes captions from code vectors [B, queries, code_dim]; a published LLM is loaded where it is to be `prepared`.
    Raises `ConfigError` where it cannot be."""
    writer = config.encoder.writer(code_dim)
    if writer is None:
        return CaptionDecoder(config, queries, code_dim)
    if prepared:
        writer.prepare()
    return writer
