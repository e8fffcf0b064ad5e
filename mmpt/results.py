"""Measured figures against their bars: printed, and kept as JSON with all that is needed to measure them again."""

import datetime
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmpt.storage import write_json

PACKAGES = ("torch", "transformers", "deepspeed", "peft")


@dataclass(frozen=True)
class Figure:
    """A measured `value`; `bar` is the least (or, with `at_most`, the largest) value that will do, None: no bar."""

    name: str
    value: float
    bar: float | None = None
    at_most: bool = False

    @property
    def ok(self) -> bool:
        if self.bar is None:
            return True
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def report(figures: Sequence[Figure], path: Path, packages: Sequence[str] = (), beside: Mapping[str, Any] | None = None) -> bool:
    """Print a line for each figure (name, value, bar, ok or short), write them to `path`; returns whether all are ok.

    `packages` are named with their versions in the file, beside those that every result depends on; `beside` goes into it too.
    """
    print("\n".join(lines(figures)))
    _write(figures, path, {**(beside or {}), **environment([*PACKAGES, *packages])})
    return all(figure.ok for figure in figures)


def gather(figures: Iterable[Figure], path: Path, packages: Sequence[str] = ()) -> bool:
    """As `report`, of figures that come one after the other: each is printed and in the file as soon as it is there."""
    found: list[Figure] = []
    around = environment([*PACKAGES, *packages])
    for figure in figures:
        found.append(figure)
        print(*lines([figure]), flush=True)
        _write(found, path, around)
    return all(figure.ok for figure in found)


def _write(figures: Sequence[Figure], path: Path, around: dict) -> None:
    rows = [{"name": f.name, "value": f.value, "bar": f.bar, "at_most": f.at_most, "ok": f.ok} for f in figures]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"figures": rows, **around})


def lines(figures: Sequence[Figure]) -> list[str]:
    """One for each figure: its name, value, bar, and whether it is ok or short."""
    found = []
    for figure in figures:
        bar = "" if figure.bar is None else f"{'<=' if figure.at_most else '>='} {figure.bar:g}"
        found.append(f"{figure.name:40} {figure.value:12.4g}  {bar:12} {'ok' if figure.ok else 'short'}")
    return found


def installed(package: str) -> bool:
    """Whether a distribution of that name is there."""
    try:
        return bool(version(package))
    except PackageNotFoundError:
        return False


def environment(packages: Sequence[str]) -> dict:
    """Device, package versions, commit and date of a measurement."""
    return {
        "device": device(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def device() -> str:
    """The GPU's name, else the CPU's with its number of cores."""
    import torch

    from mmpt.kernels.device import device_name

    return device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def commit() -> str | None:
    """The commit that the package's source is at, with "+" where files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None
