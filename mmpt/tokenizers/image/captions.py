"""Captions as hashed words, and the two small text models beside the image tokenizer while it is trained."""

import unicodedata
import zlib

import regex
import torch
from torch import nn
from torch.nn import functional as F

from mmpt.layers.attention import blocks
from mmpt.layers.positions import table
from mmpt.tokenizers.image.config import CaptionConfig

_DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(
    rf"[{_DENSE}--\p{{M}}]\p{{M}}*"  # a letter of a script without spaces, with its marks
    rf"|[[\p{{L}}\p{{N}}_]--[{_DENSE}]][[\p{{L}}\p{{M}}\p{{N}}_]--[{_DENSE}]]*"  # letters, marks and digits up to the next space
    r"|\p{So}",  # an emoji
    regex.V1,
)


def caption_ids(text: str, config: CaptionConfig) -> list[int]:
    """Ids 1 … buckets − 1 of the first `words` words, by CRC-32 (the hashing trick, Weinberger et al. 2009); 0 pads.

    A word is a run of letters, their marks and digits; in scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
    each letter with its marks; an emoji is one too. No vocabulary has to be built or stored; two words that meet in one bucket
    are read as the same word.
    """
    words = _WORD.findall(unicodedata.normalize("NFC", text.lower()))[: config.words]
    return [zlib.crc32(word.encode()) % (config.buckets - 1) + 1 for word in words]


class TextTower(nn.Module):
    """Reads a caption into one vector to compare with images, and a prediction of what each image query will hold."""

    def __init__(self, config: CaptionConfig, queries: int, code_dim: int):
        super().__init__()
        self.words = nn.Embedding(config.buckets, config.width, padding_idx=0)
        nn.init.normal_(self.words.weight, std=0.02)
        self.positions = table(config.words, config.width)
        self.slots = table(1 + queries, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        self.norm = nn.LayerNorm(config.width)
        self.summary = nn.Linear(config.width, config.dim)
        self.prediction = nn.Linear(config.width, code_dim)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`ids` [B, L] (0: padding) → summary [B, dim] and predictions [B, queries, code_dim]."""
        words = self.words(ids) + self.positions[: ids.shape[1]]
        x = torch.cat([self.slots.expand(len(ids), -1, -1), words], dim=1)
        seen = torch.cat([ids.new_ones(len(ids), len(self.slots), dtype=torch.bool), ids != 0], dim=1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, seen)
        x = self.norm(x[:, : len(self.slots)])
        return self.summary(x[:, 0]), self.prediction(x[:, 1:])


class CaptionDecoder(nn.Module):
    """Reads the code vectors of an image and writes its caption, word by word (the captioning loss of BLIP, Li et al. 2022)."""

    mask: torch.Tensor

    def __init__(self, config: CaptionConfig, queries: int, code_dim: int):
        super().__init__()
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
        length = vectors.shape[1] + ids.shape[1] - 1
        x = torch.cat([self.codes(vectors), self.words(ids[:, :-1])], dim=1) + self.positions[:length]
        for block in self.blocks:
            x = block(x, self.mask[:length, :length])
        logits = self.out(x[:, vectors.shape[1] - 1 :]).float()
        targets = ids.masked_fill(ids == 0, -100)
        total = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-100, reduction="sum")
        return total / (ids != 0).sum().clamp_min(1)
