"""Token shards for the tests of the loader."""

from pathlib import Path

import numpy as np

from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.vocabulary import Vocabulary

VOCABULARY = Vocabulary(300, "test", image_codes=512, codes_per_image=16, speech_codes=256, speech_rate=12.5)
SETTINGS = {"pack_tokens": 256, "packs_per_step": 12, "seed": 3}


def write(folder: Path, name: str, count: int, low: int = 20, high: int = 80, vocabulary: Vocabulary = VOCABULARY) -> TokenShards:
    generator = np.random.default_rng(count)
    with TokenShardWriter(folder / name, vocabulary=vocabulary, built={}, max_documents=100) as writer:
        for number in range(count):
            length = int(generator.integers(low, high + 1))
            weights = generator.integers(0, 2, length).astype(np.float32) if number % 2 else None
            ids = generator.choice(np.setdiff1d(np.arange(vocabulary.size), vocabulary.special("<|feature|>")), length)
            writer.write(TokenDocument(f"{name}-{number}", name, ids, weights))
    return TokenShards(folder / name)
