"""Long texts: every token of them is trained on.

    python datasets/benches/long_texts.py

Two textbooks, each module one text (`../shared/data/textbooks` beside the repository; left out where it is not there), and 40
texts of 500 and 20,000 tokens. A token counts as trained on where it is a target of the loader's packs; the first of each
document, which nothing comes before, can be none.
"""

import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mmpt.data.loading.loader import Loader
from mmpt.data.shards.read import TokenShards
from mmpt.data.shards.tokens import TokenDocument
from mmpt.data.shards.write import TokenShardWriter
from mmpt.results import Figure, report
from mmpt.scripts import main_guard
from mmpt.tokenizers.text import encode_text, train_text_tokenizer
from mmpt.vocabulary import Vocabulary

ROOT = Path(__file__).resolve().parent.parent.parent
TEXTBOOKS = ROOT.parent / "shared" / "data" / "textbooks"
PACKS = (1024, 8192)


@main_guard
def main() -> None:
    draw = np.random.default_rng(0)
    sets = {"made texts": [draw.integers(0, 300, 500 if number % 2 else 20_000) for number in range(40)]}
    if TEXTBOOKS.is_dir():
        sets["textbooks"] = modules()
    figures = []
    for name, texts in sets.items():
        lengths = np.array([len(text) for text in texts]) + 2
        figures += [Figure(f"{name}: texts", len(texts)), Figure(f"{name}: tokens", int(lengths.sum()))]
        with tempfile.TemporaryDirectory() as folder:
            shards = write(texts, Path(folder) / "tokens")
            for pack in PACKS:
                there = int((lengths - 1).sum())
                figures += [
                    Figure(f"{name}: longer than {pack:,}", int((lengths > pack).sum())),
                    Figure(f"{name}: tokens trained ÷ there, dropped at {pack:,}", trained(shards, pack, "drop") / there),
                    Figure(f"{name}: tokens trained ÷ there at {pack:,}", trained(shards, pack, "split") / there, 1.0),
                ]
    sys.exit(0 if report(figures, ROOT / "datasets" / "results" / "long_texts.json") else 1)


def modules() -> list[np.ndarray]:
    """The ids of each module's text, by a tokenizer of 2,000 ids trained on them."""
    paths = sorted(TEXTBOOKS.glob("*/modules/*/index.cnxml"))
    texts = [" ".join("".join(ElementTree.parse(path).getroot().itertext()).split()) for path in paths]
    tokenizer = train_text_tokenizer(texts, 2000)
    return [np.array(encode_text(tokenizer, text)) for text in texts if text]


def write(texts: list[np.ndarray], folder: Path) -> TokenShards:
    vocabulary = Vocabulary(2000, "bench", image_codes=0, codes_per_image=0, speech_codes=0, speech_rate=0.0)
    marks = [vocabulary.special(mark) for mark in ("<|begin|>", "<|end|>")]
    with TokenShardWriter(folder, vocabulary=vocabulary, built={"by": "bench"}) as writer:
        for number, text in enumerate(texts):
            writer.write(TokenDocument(str(number), "bench", np.array([marks[0], *text, marks[1]])))
    return TokenShards(folder)


def trained(shards: TokenShards, pack: int, long: str) -> int:
    loader = Loader([shards], pack_tokens=pack, packs_per_step=1, seed=0, epochs=1, long_documents=long, workers=0)
    return sum(int(((batch.targets >= 0) & (batch.weights > 0)).sum()) for step in loader for batch in step)


if __name__ == "__main__":
    main()
