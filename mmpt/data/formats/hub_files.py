"""Which files of a repository of the Hugging Face hub are read: by their paths, or by a configuration and a split."""

import posixpath
import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pydantic
import yaml
from fsspec.utils import glob_translate

from mmpt.config import Expression, Schema
from mmpt.data.formats.front_matter import yaml_of
from mmpt.data.store import Store, files_of
from mmpt.errors import ConfigError, DataError

README = "README.md"
NO_DATA = {README, "config.json", "dataset_info.json", "dataset_infos.json", "dummy_data.zip", "dataset_dict.json"}
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SHARDED = re.compile(r"data/(?P<split>\w+(\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
_BETWEEN = "[-._ 0-9]"
Splits = dict[str, list[str]]
"""Split → patterns of its files, as fsspec's `glob` reads them."""


class Wanted(NamedTuple):
    """Whether a file is read, by its path, and which files these are, for messages."""

    has: Callable[[str], bool]
    said: str


class HubFiles(Schema):
    """Which files of a repository are read."""

    files: Expression = ".*"
    """Regular expression of the paths that are read."""
    config: str = ""
    """Configuration of the repository, among the `configs` in the YAML of its README, in place of `files`; empty: its default
    one, where `split` is named."""
    split: str = ""
    """Split of the configuration, such as `train`; empty: all. Where the README says no files, names with train, validation or
    test in them, as `datasets` takes them (github.com/huggingface/datasets)."""

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> "HubFiles":
        if (self.config or self.split) and self.files != type(self).model_fields["files"].default:
            raise ValueError("expected either files, or config and split: which files are read")
        return self

    def wanted(self, location: str) -> Wanted:
        """What of a folder is read. Raises `ConfigError` where there is no such configuration or split."""
        if not (self.config or self.split):
            return Wanted(lambda name: bool(re.fullmatch(self.files, name, re.DOTALL)), f"whose path matches {self.files!r}")
        names = list(files_of(location))
        folder, splits = config_splits(location, names, self.config)
        if self.split and self.split not in splits:
            raise ConfigError(f"{location}: no split {self.split!r} (there is {', '.join(splits) or 'none'})")
        patterns = [one for name, own in splits.items() if self.split in ("", name) for one in own]
        found = matching(names, [posixpath.join(folder, one) for one in patterns])
        said = [f"{key} {value}" for key, value in (("config", self.config), ("split", self.split)) if value]
        return Wanted(found.__contains__, f"of {' and '.join(said)}")


def config_splits(location: str, names: list[str], config: str) -> tuple[str, Splits]:
    """(Folder of a configuration, its splits), of a repository that has the files `names`; where `config` is empty, of the
    default one: the only one, that which says so, or that of this name. Raises `ConfigError` where there is none."""
    configs = _configs(location) if README in names else {}
    if not configs:
        if config:
            raise ConfigError(f"{location}: no config {config!r}: {README} names no configs; leave it out, or say files")
        return "", default_splits(names)
    default = [name for name, own in configs.items() if len(configs) == 1 or name == "default" or own.get("default")]
    if not config and len(default) != 1:
        raise ConfigError(f"{location}: config: missing; {README} names {', '.join(configs)}")
    if (config := config or default[0]) not in configs:
        raise ConfigError(f"{location}: no config {config!r} (there is {', '.join(configs)})")
    folder, said = str(configs[config].get("data_dir") or ""), configs[config].get("data_files")
    if said is None:
        below = [posixpath.relpath(name, folder) if folder else name for name in names if _is_below(name, folder)]
        return folder, default_splits(below)
    try:
        return folder, _patterns(said)
    except (KeyError, TypeError):
        told = "expected patterns, or a list of split and path"
        raise ConfigError(f"{location}/{README}: configs: {config}: data_files: {told}, found {said!r}") from None


def default_splits(names: Iterable[str]) -> Splits:
    """The splits that the names say: data/SPLIT-00000-of-00001.*, folders with train, validation or test in their names, or
    files; otherwise all is `train`."""
    names = list(names)
    sharded = [match["split"] for name in names if (match := _SHARDED.fullmatch(name))]
    if sharded:
        order = [*_KEYWORDS, *sorted(set(sharded) - _KEYWORDS.keys())]
        return {split: [f"data/{split}-{'[0-9]' * 5}-of-{'[0-9]' * 5}*.*"] for split in order if split in sharded}
    for end in ("/**", ""):
        found = {}
        for split, words in _KEYWORDS.items():
            shapes = [f"**/{word}{end}" for word in words] if end else []
            shapes += [f"**/{before}{word}{_BETWEEN}*{end}" for word in words for before in ("", f"*{_BETWEEN}")]
            shapes += [f"**/*{_BETWEEN}{word}{end}" for word in words] if end else []
            if matching(names, shapes):
                found[split] = shapes
        if found:
            return found
    return {"train": ["**"]}


def matching(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """The names that match a pattern, as `datasets` takes them: hidden files, what lies in folders with two underscores, and
    descriptions of the repository only where the pattern names them."""
    found = set()
    for pattern in patterns:
        pattern = posixpath.normpath(pattern)
        fits = re.compile(glob_translate(pattern)).fullmatch
        for name in names:
            same = PurePosixPath(name).name == PurePosixPath(pattern).name
            if fits(name) and (same or PurePosixPath(name).name not in NO_DATA) and _marked(name) == _marked(pattern):
                found.add(name)
    return found


def _marked(path: str) -> tuple[int, int]:
    """Steps of a path that are hidden, and folders of two underscores."""
    steps = PurePosixPath(path).parts
    return sum(one.startswith(".") for one in steps), sum(one.startswith("__") for one in steps[:-1])


def _is_below(name: str, folder: str) -> bool:
    return name.startswith(f"{folder.rstrip('/')}/") if folder else True


def _configs(location: str) -> dict[str, dict]:
    """Name → what the README says of each configuration."""
    where = f"{location}/{README}"
    try:
        said = yaml_of(Store(location).read(README).decode("utf-8-sig").replace("\r\n", "\n")).get("configs") or []
    except (DataError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise ConfigError(f"{where}: {problem}") from None
    if not isinstance(said, list) or not all(isinstance(one, dict) and "config_name" in one for one in said):
        raise ConfigError(f"{where}: configs: expected a list, each with its config_name")
    return {str(one["config_name"]): one for one in said}


def _patterns(said: Any) -> Splits:
    if isinstance(said, list) and any(isinstance(one, dict) for one in said):
        return {str(one["split"]): _several(one["path"]) for one in said}
    return {"train": _several(said)}


def _several(said: Any) -> list[str]:
    found = said if isinstance(said, list) else [said]
    if not all(isinstance(one, str) for one in found):
        raise TypeError("no pattern")
    return found
