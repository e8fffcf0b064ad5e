"""What a plan costs and how good it is; nothing of the documents is read.

    python datasets/benches/planning.py [../shared/data/guides]

An epoch of 10 million documents (log-normal lengths of 20 to 8,192 tokens) is ordered and packed block by block; its packs are
shared out to 1,024 ranks of 8 workers. The fill of packs is that of the tutorials and the drawn scenes of the quickstart,
at their real lengths, 1 : 1 by tokens. Writes datasets/results/planning.json.
"""

import resource
import sys
import time
from pathlib import Path

import numpy as np

from mmpt.config import load_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.loading.order import block_count, block_order, epoch_documents
from mmpt.data.loading.packing import plan_packs
from mmpt.data.synthetic.scenes import all_scenes
from mmpt.document import Document, Image, Text
from mmpt.errors import ConfigError
from mmpt.results import Figure, report
from mmpt.scripts import main_guard
from mmpt.tokenizers.text import train_text_tokenizer

DOCUMENTS, SHARD, PACK, RANKS, WORKERS = 10_000_000, 10_000, 8192, 1024, 8
CODES_PER_IMAGE, CODES_PER_CAPTION = 16, 40
ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "datasets" / "results" / "planning.json"


@main_guard
def main() -> None:
    guides = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT.parent / "shared" / "data" / "guides")
    if not guides.is_dir():
        raise ConfigError(f"{guides}: no such folder")
    figures = plan_epoch() + fills(guides)
    sys.exit(0 if report(figures, RESULT) else 1)


def plan_epoch() -> list[Figure]:
    """Seconds, memory, and how evenly 1,024 ranks are served."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(5.8, 1.0, (DOCUMENTS // SHARD, SHARD)), 20, PACK).astype(np.int32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    shards = [np.full(DOCUMENTS // SHARD, SHARD, dtype=np.int64)]
    count = epoch_documents(shards, [1.0])
    blocks = block_count(count)
    seen = np.zeros(lengths.shape, dtype=np.uint8)
    tokens, packs_before, checking = np.zeros(RANKS, dtype=np.int64), 0, 0.0
    slots = np.zeros(RANKS * WORKERS, dtype=np.int64)
    for block in range(blocks):
        rows = block_order(shards, count, 0, 0, block, blocks)
        own = lengths[rows[:, 1], rows[:, 2]]
        packs, dropped = plan_packs(own, PACK)
        pause = time.perf_counter()
        assert not len(dropped)
        order = np.concatenate(packs)
        np.add.at(seen, (rows[order, 1], rows[order, 2]), 1)
        sizes = np.add.reduceat(own[order], np.cumsum([0, *map(len, packs[:-1])]))
        numbers = packs_before + np.arange(len(packs))
        np.add.at(tokens, numbers % RANKS, sizes)
        # A rank's packs go to its workers in turn; each pack is one worker's of one rank.
        np.add.at(slots, numbers % RANKS * WORKERS + numbers // RANKS % WORKERS, 1)
        packs_before += len(packs)
        checking += time.perf_counter() - pause
    seconds = time.perf_counter() - began - checking
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    whole = packs_before // RANKS * RANKS  # the last, partial step is filled from the next epoch
    uneven = np.abs(tokens / tokens.mean() - 1).max() if whole == packs_before else None
    if uneven is None:
        shares = tokens / (packs_before // RANKS + (np.arange(RANKS) < packs_before % RANKS))
        uneven = np.abs(shares / shares.mean() - 1).max()
    return [
        Figure("documents planned", DOCUMENTS),
        Figure("seconds to plan an epoch", seconds, 60, at_most=True),
        Figure("peak GiB of the process", peak / 2**20, 2, at_most=True),
        Figure("peak GiB above the lengths", (peak - before) / 2**20),
        Figure("documents that did not come exactly once", int((seen != 1).sum()), 0, at_most=True),
        Figure("ranks", RANKS),
        Figure("workers of all ranks that got packs", int((slots > 0).sum()), RANKS * WORKERS),
        Figure("steps an epoch", packs_before / RANKS),
        Figure("largest deviation of a rank's tokens", float(uneven), 0.001, at_most=True),
        Figure("fill at 8,192, 10 million documents", float(tokens.sum() / packs_before / PACK)),
    ]


def fills(guides: Path) -> list[Figure]:
    """Fill of packs of tutorials and drawn scenes, each scene in the quickstart's four arrangements."""
    config = load_config(ROOT / "datasets" / "specs" / "guides.yaml", BuildConfig)
    source = config.sources[0].model_copy(update={"folder": str(guides)})
    pages = [one for one in documents(BuildConfig(sources=(source,))) if isinstance(one, Document)]
    captions = [scene.caption() for scene in all_scenes()]
    texts = [part.text for page in pages for part in page.parts if isinstance(part, Text)]
    tokenizer = train_text_tokenizer(texts + captions[:2000], 2000)
    text_tokens = dict(zip(texts, map(len, tokenizer(texts)["input_ids"]), strict=True))
    page_lengths = [
        2 + sum(CODES_PER_IMAGE + 2 if isinstance(part, Image) else text_tokens[part.text] for part in page.parts)
        for page in pages
    ]
    words = np.array([len(ids) for ids in tokenizer(captions[:6000])["input_ids"]])
    scenes = np.concatenate([words + 4 + CODES_PER_CAPTION, words + 4 + CODES_PER_IMAGE] * 2)
    copies = max(1, round(scenes.sum() / sum(page_lengths)))
    lengths = np.concatenate([np.tile(page_lengths, copies), scenes])
    lengths = lengths[np.random.default_rng(0).permutation(len(lengths))]
    figures = [
        Figure("tutorials' tokens, median", float(np.median(page_lengths))),
        Figure("scenes' tokens, median", float(np.median(scenes))),
    ]
    for pack in (2048, 8192):
        packs, dropped = plan_packs(lengths, pack)
        fill = (lengths.sum() - lengths[dropped].sum()) / pack / len(packs)
        figures += [
            Figure(f"fill at {pack:,}", float(fill), 0.98),
            Figure(f"share of documents too long for {pack:,}", len(dropped) / len(lengths)),
        ]
    return figures


if __name__ == "__main__":
    main()
