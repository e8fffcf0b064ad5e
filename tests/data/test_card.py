"""The card of a set says what is in it, whoever made it of what."""

import json
import runpy
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import DatasetCard
from PIL import Image as Picture

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, build
from mmpt.data.card import card
from mmpt.data.curate.job import curate
from mmpt.data.curate.scoring import ScoreConfig, score
from mmpt.data.curate.steps.compose import Compose
from mmpt.data.curate.steps.dedup import Dedup
from mmpt.data.curate.steps.degrade import Degrade
from mmpt.data.curate.steps.filter import Filter
from mmpt.data.curate.steps.join import Join
from mmpt.data.curate.steps.select import Select
from mmpt.data.curate.steps.to_tokens import ToTokens
from mmpt.data.shards.manifest import read_manifest
from mmpt.data.shards.read import DocumentShards
from mmpt.data.shards.write import ShardWriter
from mmpt.data.sources.shards import Shards
from mmpt.data.store import Store
from mmpt.document import Document, Image, Speech, Text
from mmpt.errors import DataError
from mmpt.media import encode_flac, encode_png
from mmpt.tokenizers.text import train_text_tokenizer

ROOT = Path(__file__).parents[2]
PNG = encode_png(Picture.new("RGB", (8, 6), "red"))


def script(path: Path, *arguments: str) -> None:
    """Run a script in this process, which `memory://` belongs to."""
    before, sys.argv = sys.argv, [path.name, *arguments]
    try:
        runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = before


def spoken(name: str, text: str, **meta: str) -> Document:
    samples = np.linspace(-0.5, 0.5, 8000 + 160 * len(text), dtype=np.float32)
    return Document(
        name, "said", (Speech(encode_flac(samples, 16000), "flac", 16000, len(samples) / 16000, text), Text(text)), meta
    )


def read(name: str, text: str, **meta: str) -> Document:
    return Document(name, "seen", (Text(text), Image(PNG, "png", 8, 6, "a | b")), meta)


@pytest.fixture
def pool(tmp_path) -> Path:
    with ShardWriter(tmp_path / "pool", built={"by": "hand"}) as writer:
        for number in range(6):
            language = "en-GB" if number % 2 else "de"
            writer.write(spoken(f"said/{number}", f"one two {'three ' * number}", license="CC0-1.0", language=language))
            writer.write(read(f"seen/{number}", f"four five number{number}", license="CC-BY-4.0"))
    return tmp_path / "pool"


def table(text: str, heading: str) -> list[list[str]]:
    """Rows of the first table under a heading, without its first two lines."""
    lines = text.split(f"{heading}\n", 1)[1]
    first = lines[lines.index("| ") :].split("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in first]
    return rows[2:]


def check(folder: Path) -> tuple[str, DatasetCard]:
    """The card's counts, against those of the documents themselves."""
    text = card(str(folder))
    found = list(DocumentShards(folder))
    parts = [part for one in found for part in one.parts]
    words = sum(len(part.text.split()) for part in parts if isinstance(part, Text))
    hours = sum(part.duration for part in parts if isinstance(part, Speech)) / 3600
    pictures = sum(isinstance(part, Image) for part in parts)
    assert table(text, "## What is in it")[0] == [f"{len(found)}", f"{words}", f"{pictures}", f"{hours:.3f}"]
    licences = Counter(one.meta.get("license", "not said") for one in found)
    assert {row[0].replace("\\", ""): int(row[1]) for row in table(text, "### Licences")} == licences
    sources = Counter(one.source for one in found)
    assert Counter({row[0]: 0 for row in table(text, "### Sources")}).keys() == sources.keys()
    lost = Counter(json.loads(line)["rule"] or "bad data" for line in (folder / "lost.jsonl").read_text().splitlines())
    last = table(text, "## How it was made")[-1]
    assert last[2:] == [
        str(len(found)),
        ", ".join(f"{rule.replace('_', chr(92) + '_')}: {lost[rule]}" for rule in sorted(lost)) or "nothing",
    ]
    assert read_manifest(folder).fingerprint in text
    return text, DatasetCard(text)


def test_it_is_true_of_what_was_selected_deduplicated_joined_and_merged(pool, tmp_path):
    curate(Filter.model_validate({"rules": [{"kind": "text_length", "min": 9}]}), [pool], tmp_path / "filtered")
    curate(Dedup(), [tmp_path / "filtered", pool], tmp_path / "unique")
    curate(Join(least=1.0), [tmp_path / "unique"], tmp_path / "joined")
    score(
        parse_config({"scorer": {"kind": "zip_fit", "target": str(pool)}, "name": "zip"}, ScoreConfig, "x"),
        str(tmp_path / "joined"),
    )
    step = parse_config({"by": "zip", "documents": 4}, Select, "x")
    curate(step, [tmp_path / "joined"], tmp_path / "selected")
    merged = BuildConfig(sources=(Shards(folder=str(tmp_path / "selected")), Shards(folder=str(tmp_path / "pool"))))
    build(merged, tmp_path / "merged")
    for name in ("filtered", "unique", "joined", "selected", "merged"):
        check(tmp_path / name)
    shutil.rmtree(tmp_path / "filtered")  # what a set came from is told when that is gone
    text, found = check(tmp_path / "merged")
    assert [row[0] for row in table(text, "## How it was made")] == [
        "pool", "filtered", "pool", "unique", "joined", "selected", "pool", "merged"
    ]  # fmt: skip
    assert "min: 9" in text and "documents: 4" in text and "least: 1.0" in text
    assert found.data.license == ["cc-by-4.0", "cc0-1.0"] or found.data.license == ["cc0-1.0", "cc-by-4.0"]
    assert found.data.language == ["de", "en"] and found.data.size_categories == ["n<1K"] and found.data.pretty_name == "merged"
    assert found.data.configs == [{"config_name": "default", "data_files": "shard-*.tar"}]


def test_nothing_of_one_licence_is_joined_to_another(tmp_path):
    with ShardWriter(tmp_path / "in", built={}) as writer:
        for number, name in enumerate(("CC0-1.0", "CC0-1.0", "CC-BY-4.0", "CC-BY-4.0")):
            writer.write(spoken(f"said/{number}", "one", license=name))
    curate(Join(), [tmp_path / "in"], tmp_path / "out")
    found = [(one.meta["license"], one.meta.get("joined")) for one in DocumentShards(tmp_path / "out")]
    assert found == [("CC0-1.0", ["said/0", "said/1"]), ("CC-BY-4.0", ["said/2", "said/3"])]


def test_what_is_put_together_has_all_licences_or_none(tmp_path):
    with ShardWriter(tmp_path / "in", built={}) as writer:
        for number, name in enumerate(("CC0-1.0", "CC-BY-4.0", "MIT", None)):
            writer.write(spoken(f"said/{number}", "one", voice=str(number), **({"license": name} if name else {})))
    curate(Compose.model_validate({"composition": {"kind": "mixture"}}), [tmp_path / "in"], tmp_path / "out")
    found = [one.meta.get("license") for one in DocumentShards(tmp_path / "out")]
    assert found == ["CC-BY-4.0 AND CC0-1.0", None]
    assert DatasetCard(card(str(tmp_path / "out"))).data.license == ["cc-by-4.0", "cc0-1.0", "unknown"]


def test_what_nobody_said_is_not_made_up_and_what_strangers_wrote_stays_text(tmp_path):
    evil = "| <script> [x](y) ```\n# big"
    with ShardWriter(tmp_path / "set", built={"note": evil}) as writer:
        writer.write(Document(evil, evil, (Text(evil),), {"license": "House rules", evil: 1}))
        writer.write(Document("b", "b", (Text("b"),)))
    (tmp_path / "set" / "lost.jsonl").write_text(json.dumps({"item": evil, "reason": evil, "rule": evil}) + "\n")
    text = card(str(tmp_path / "set"))
    found = DatasetCard(text).data
    assert found.license == ["other", "unknown"] and found.license_name == "House rules" and found.language is None
    assert "# big" not in text.replace("\n# big\n", "", 3).splitlines()
    shown = text.split("## Examples")[1]
    assert shown.split("````text\n")[1].startswith(evil + "\n````")
    assert "<script>" not in text.split("## Examples")[0].split("## How")[0]


def test_tokens_have_the_licences_of_their_documents_while_those_are_there(pool, tmp_path):
    train_text_tokenizer(["one two three four five number"] * 4, 300).save_pretrained(tmp_path / "text")
    curate(Filter.model_validate({"rules": [{"kind": "license", "keep": ["CC-BY-4.0"]}]}), [pool], tmp_path / "chosen")
    curate(Degrade(to="text"), [tmp_path / "chosen"], tmp_path / "texts")
    curate(ToTokens(text=str(tmp_path / "text")), [tmp_path / "texts"], tmp_path / "tokens")
    text = card(str(tmp_path / "tokens"))
    assert DatasetCard(text).data.license == "cc-by-4.0"
    assert table(text, "## How it was made")[0][0] == "pool" and table(text, "### Licences")[0][:3] == ["CC-BY-4.0", "6", "18"]
    assert table(text, "## What is in it")[0] == [f"{read_manifest(tmp_path / 'tokens').counts['text']}", "text"]
    shutil.rmtree(tmp_path / "texts")
    text = card(str(tmp_path / "tokens"))
    assert DatasetCard(text).data.license == "unknown" and "nothing is said of licences" in text


def test_the_script_takes_urls(pool, tmp_path):
    for path in pool.iterdir():
        Store("memory://cards/pool").write(path.name, path.read_bytes())
    script(ROOT / "datasets" / "card.py", "memory://cards/pool", "memory://cards/README.md", "--title", "pool")
    assert Store("memory://cards").read("README.md").decode() == card(str(pool))
    with pytest.raises(DataError, match="no finished set"):
        card("memory://cards")
