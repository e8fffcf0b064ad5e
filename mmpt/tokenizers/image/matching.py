"""Image-text matching (BLIP-2, Li et al. 2023, arXiv:2301.12597, section 3.1, after ALBEF, Li et al. 2021, arXiv:2107.07651)."""

import torch
from torch import nn
from torch.nn import functional as F

from mmpt.layers.attention import blocks
from mmpt.tokenizers.image.captions import TextTower
from mmpt.tokenizers.image.config import CaptionConfig
from mmpt.tokenizers.terms import Term


class Matcher(nn.Module):
    """Tells whether an image and a caption belong together, of all of the image's states and all of the caption's: queries and
    words see each other, and each query says yes or no."""

    def __init__(self, config: CaptionConfig, width: int):
        super().__init__()
        self.project = nn.Linear(width, config.width)
        self.blocks = blocks(config.depth, config.width, config.heads)
        self.out = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, 1))

    def forward(self, hidden: torch.Tensor, words: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        """Logits [B] that `hidden` [B, queries, width] belongs to `words` [B, L, captions.width], of which those `told` [B, L]
        mean something."""
        queries = hidden.shape[1]
        x = torch.cat([self.project(hidden), words], dim=1)
        seen = torch.cat([told.new_ones(len(told), queries), told], dim=1)[:, None, None, :]
        for block in self.blocks:
            x = block(x, seen)
        return self.out(x[:, :queries]).mean(dim=(1, 2)).float()


def matching_term(
    matcher: Matcher, text: TextTower, hidden: torch.Tensor, ids: torch.Tensor, alike: torch.Tensor, weight: float
) -> Term:
    """Cross-entropy of right pairs, of each image with a wrong caption, and of each caption with a wrong image; of those images
    `hidden` [B, queries, width] that have a caption in `ids` [B, L].

    Wrong ones are drawn as they are taken for right: by the softmax of `alike` [B, B] (image, text) without equal captions. An
    image all others of which have the same caption has only its right pair.
    """
    told = (ids != 0).any(dim=1)
    hidden, ids, alike = hidden[told], ids[told], alike.detach().float()[told][:, told]
    if not len(ids):
        nothing = hidden.sum() * 0.0 + sum(value.sum() for value in matcher.parameters()) * 0.0
        return Term(nothing, hidden.new_zeros(()), weight)
    same = (ids[:, None] == ids[None]).all(dim=-1)
    has = (~same).any(dim=1)
    rows = torch.arange(len(ids), device=ids.device)
    words, seen = text.read(ids)
    images, texts, right = [rows], [rows], [torch.ones_like(rows)]
    if has.any():
        chance = alike.masked_fill(same, -torch.inf)
        images += [rows[has], torch.multinomial(chance.T[has].softmax(dim=1), 1)[:, 0]]
        texts += [torch.multinomial(chance[has].softmax(dim=1), 1)[:, 0], rows[has]]
        right += [torch.zeros_like(rows[has])] * 2
    image, caption, target = torch.cat(images), torch.cat(texts), torch.cat(right)
    logits = matcher(hidden[image], words[caption], seen[caption])
    loss = F.binary_cross_entropy_with_logits(logits, target.float(), reduction="sum")
    return Term(loss, loss.new_tensor(float(len(target))), weight)
