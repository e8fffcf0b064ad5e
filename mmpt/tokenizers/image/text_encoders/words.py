"""Words by their hashes, learned along."""

import unicodedata
import zlib
from typing import TYPE_CHECKING

import regex

from mmpt.tokenizers.image.text_encoders import TextEncoder

if TYPE_CHECKING:
    from torch import nn

    from mmpt.tokenizers.image.config import CaptionConfig

_DENSE = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_WORD = regex.compile(
    rf"[{_DENSE}--\p{{M}}]\p{{M}}*"  # a letter of a script without spaces, with its marks
    rf"|[[\p{{L}}\p{{N}}_]--[{_DENSE}]][[\p{{L}}\p{{M}}\p{{N}}_]--[{_DENSE}]]*"  # letters, marks and digits up to the next space
    r"|\p{So}",  # an emoji
    regex.V1,
)


class Words(TextEncoder):
    """Words by CRC-32 (the hashing trick, Weinberger et al. 2009, arXiv:0902.2206), each with a vector that learns along.

    A word is a run of letters, their marks and digits; in scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese)
    each letter with its marks; an emoji is one too. No vocabulary has to be built or stored; two words that meet in one bucket
    are read as the same word.
    """

    def ids(self, text: str, captions: "CaptionConfig") -> list[int]:
        words = _WORD.findall(unicodedata.normalize("NFC", text.lower()))[: captions.words]
        return [zlib.crc32(word.encode()) % (captions.buckets - 1) + 1 for word in words]

    def build(self, captions: "CaptionConfig") -> "nn.Module":
        from torch import nn

        words = nn.Embedding(captions.buckets, captions.width, padding_idx=0)
        nn.init.normal_(words.weight, std=0.02)
        return words
