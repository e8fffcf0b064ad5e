"""Configurations and splits of a repository of the hub, as its README says and as the library `datasets` reads them."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import webdataset
from PIL import Image as Picture

from mmpt.config import parse_config
from mmpt.data.build import BuildConfig, documents
from mmpt.data.formats.hub_files import HubFiles
from mmpt.document import Document, Text
from mmpt.errors import ConfigError
from mmpt.media import encode_png

NAMES = {
    "several": ["en/train-0.jsonl", "en/train-1.jsonl", "en/deep/more/test.jsonl", "fr/all.jsonl", ".hidden/x.jsonl",
                "en/__old__/train-9.jsonl", "fr/config.json", "LICENSE"],
    "sharded": ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl", "data/dev.part-00000-of-00001.jsonl",
                "x.jsonl"],
    "folders": ["my_train_set/a.jsonl", "my_train_set/b/c.jsonl", "dev/a.jsonl", "test.jsonl", "other/a.jsonl"],
    "files": ["train.jsonl", "eval-1.jsonl", "sub/my-valid.jsonl", "training_2.jsonl", "retrain.jsonl"],
    "plain": ["a.jsonl", "b/c.jsonl", ".git/d.jsonl"],
}  # fmt: skip
CONFIGS = {
    "several": """
- config_name: en
  default: true
  data_files:
  - {split: train, path: "en/train-*"}
  - {split: test, path: ["en/**/test.jsonl"]}
- config_name: fr
  data_files: fr/*
- config_name: both
  data_files: ["en/train-0.jsonl", "./fr/**"]
- config_name: old
  data_files: en/__old__/*
- config_name: below
  data_dir: en
- config_name: within
  data_dir: en
  data_files: [{split: train, path: "*.jsonl"}, {split: more, path: ["deep/**"]}]
"""
}


def repository(folder: Path, layout: str) -> Path:
    for name in NAMES[layout]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"text": name}) + "\n")
    said = f"configs:{CONFIGS[layout]}" if layout in CONFIGS else "license: cc0-1.0\n"
    (folder / "README.md").write_text(f"---\n{said}---\n# A set\n")
    return folder


def by_datasets(folder: Path, config: str | None, cache: Path) -> dict[str, set[str]]:
    builder = datasets.load_dataset_builder(str(folder), config, cache_dir=str(cache))
    return {split: {str(Path(one).relative_to(folder)) for one in files} for split, files in builder.config.data_files.items()}


def ours(folder: Path, config: str, split: str) -> set[str]:
    wanted = HubFiles(config=config, split=split).wanted(str(folder))
    return {str(one.relative_to(folder)) for one in folder.rglob("*.jsonl") if wanted.has(str(one.relative_to(folder)))}


@pytest.mark.parametrize(
    ("layout", "config"),
    [("several", one) for one in ("", "en", "fr", "both", "old", "below", "within")]
    + [(one, "") for one in ("sharded", "folders", "files", "plain")],
)
def test_files_of_each_split_are_those_that_datasets_takes(tmp_path, layout, config):
    folder = repository(tmp_path / "set", layout)
    wanted = by_datasets(folder, config or None, tmp_path / "cache")
    assert wanted and all(wanted.values())
    for split, files in wanted.items():
        assert ours(folder, config, str(split)) == {one for one in files if one.endswith(".jsonl")}
    with pytest.raises(ConfigError, match=f"no split 'nowhere' \\(there is {', '.join(map(str, wanted))}\\)"):
        ours(folder, config, "nowhere")


def read(**source) -> list[Document]:
    return list(documents(parse_config({"sources": [source]}, BuildConfig, "test")))


def test_rows_of_a_split_are_those_of_datasets(tmp_path):
    folder = repository(tmp_path / "set", "several")
    for config, split in (("en", "train"), ("both", "train"), ("within", "more")):
        rows = datasets.load_dataset(str(folder), config, split=split, cache_dir=str(tmp_path / "cache"))
        found = read(kind="hub_rows", rows=str(folder), config=config, split=split, parts=[{"text": "text"}])
        assert sorted(one.parts[0].text for one in found) == sorted(rows["text"])
    every = read(kind="hub_rows", rows=str(folder), config="en", parts=[{"text": "text"}])
    assert [one.parts[0].text for one in every] == ["en/deep/more/test.jsonl", "en/train-0.jsonl", "en/train-1.jsonl"]


def test_pictures_and_tars_of_a_split(tmp_path):
    rows = []
    for number, split in enumerate(("train", "held")):
        (tmp_path / split).mkdir()
        data = encode_png(Picture.fromarray(np.full((4, 4, 3), number, np.uint8)))
        (tmp_path / split / "a.png").write_bytes(data)
        (tmp_path / split / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": split}) + "\n")
        with webdataset.TarWriter(str(tmp_path / split / "0.tar")) as writer:
            writer.write({"__key__": "0", "png": data, "txt": split})
        rows.append(f"- {{split: {split}, path: '{split}/*'}}")
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: x\n  data_files:\n  " + "\n  ".join(rows) + "\n---\n")
    (found,) = [
        one
        for one in read(kind="hub_folder", folder=str(tmp_path), split="held", parts=[{"image": "image"}, {"text": "text"}])
        if isinstance(one, Document)
    ]
    assert isinstance(found.parts[1], Text) and found.parts[1].text == "held"
    (found,) = read(kind="hub_tars", folder=str(tmp_path), config="x", split="train", parts=[{"image": "png"}, {"text": "txt"}])
    assert found.parts[1].text == "train"


def test_what_is_not_there_is_told_with_what_is(tmp_path):
    folder = repository(tmp_path / "set", "several")
    for config, split, message in (
        ("de", "", r"no config 'de' \(there is en, fr, both, old, below, within\)"),
        ("en", "dev", r"no split 'dev' \(there is train, test\)"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(kind="hub_rows", rows=str(folder), config=config, split=split, parts=[{"text": "text"}])
    with pytest.raises(ConfigError, match="names no configs"):
        HubFiles(config="en").wanted(str(repository(tmp_path / "plain", "plain")))
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("default: true", "version: 1.0.0"))
    with pytest.raises(ConfigError, match=r"config: missing; README.md names en, fr, both, old, below, within"):
        HubFiles(split="train").wanted(str(folder))
    readme.write_text("---\nconfigs: {en: x}\n---\n")
    with pytest.raises(ConfigError, match="expected a list, each with its config_name"):
        HubFiles(split="train").wanted(str(folder))
    readme.write_text("---\nconfigs:\n- {config_name: en, data_files: [{splits: train}]}\n---\n")
    with pytest.raises(ConfigError, match="en: data_files: expected patterns"):
        HubFiles(split="train").wanted(str(folder))
    readme.write_text("---\nconfigs:\n- {config_name: en, data_files: gone/*}\n---\n")
    with pytest.raises(ConfigError, match="no file with rows of config en and split train"):
        read(kind="hub_rows", rows=str(folder), config="en", split="train", parts=[{"text": "text"}])
    for rows, files, message in (
        (str(folder), "en/.*", "either files, or config and split"),
        (str(folder / "en/train-0.jsonl"), r".*\.parquet", "expected a folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            read(kind="hub_rows", rows=rows, config="en", files=files, parts=[{"text": "text"}])
