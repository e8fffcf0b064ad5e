"""A study: commands of this project, once for each variant and seed, and what is compared in the end."""

import hashlib
import itertools
import json
import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pydantic

from mmpt.config import Schema, load_config
from mmpt.errors import ConfigError


class Step(Schema):
    """`run`: a script of this project and its arguments; a mapping among them is written to a YAML file whose path takes its
    place. `out`: what it makes, a folder. Both may hold `${root}`, `${out}`, `${seed}`, `${variant}`, the study's values and the
    keys of a variant; the step runs once for each value of `each`."""

    name: str
    run: list[str | dict] = pydantic.Field(min_length=1)
    out: str
    each: tuple[Literal["variant", "seed"], ...] = ()


class FigureSource(Schema):
    """A `measure` of a `benchmark` in the results that `recipes/evaluate.py` left in `results`; with `minus`, less that measure
    of another benchmark. `variants`: those that have it, all by default."""

    results: str
    benchmark: str
    measure: str
    minus: str | None = None
    variants: tuple[str, ...] = ()


class Comparison(Schema):
    """The claim that `figure` of the variant `more` lies above that of `less`."""

    figure: str
    more: str
    less: str


class Study(Schema):
    """A finding of a paper and how it is tried. `uses`: study files whose values are known here, and whose steps come before
    these. `values`: what `${name}` stands for."""

    paper: str = ""
    claim: str = ""
    uses: tuple[str, ...] = ()
    values: dict[str, object] = {}
    seeds: tuple[int, ...] = (0, 1, 2)
    variants: dict[str, dict] = {}
    steps: tuple[Step, ...] = ()
    figures: dict[str, FigureSource] = {}
    compare: tuple[Comparison, ...] = ()

    @pydantic.model_validator(mode="after")
    def _comparable(self) -> "Study":
        if self.compare and len(set(self.seeds)) < 2:
            raise ValueError("compare: an interval needs two seeds or more")
        for one in self.compare:
            if one.figure not in self.figures:
                raise ValueError(f"compare: no figure is named {one.figure!r}")
            known = self.figures[one.figure].variants or self.variants
            for variant in (one.more, one.less):
                if variant not in known:
                    raise ValueError(f"compare: {one.figure!r} has no variant {variant!r}")
        return self


@dataclass(frozen=True)
class Job:
    """One run of a step: `command`, a script or `mmpt` first; `files`, what must be written before; `fingerprint` changes with it
    and with all that it may depend on."""

    name: str
    command: tuple[str, ...]
    files: dict[Path, dict]
    out: Path
    fingerprint: str


def load_study(path: Path, overrides: Sequence[str] = ()) -> list[tuple[str, Study]]:
    """(name, study) of the file, with `overrides` (key=value), and of those that it uses, these first, with its seeds."""
    study = load_config(path, Study, overrides)
    before = [one for other in study.uses for one in load_study(path.parent / other)]
    values = {name: value for _, other in before for name, value in other.values.items()} | study.values
    return [
        *((name, other.model_copy(update={"seeds": study.seeds})) for name, other in before),
        (path.stem, study.model_copy(update={"values": values})),
    ]


def plan(studies: list[tuple[str, Study]], root: Path) -> list[list[Job]]:
    """The jobs of each step, in the order of the steps; those of one step do not depend on each other."""
    stages: list[list[Job]] = []
    done: list[tuple[dict[str, str], str]] = []  # what each job so far was for, and its fingerprint
    for name, study in studies:
        for step in study.steps:
            jobs = []
            for values in _bindings(study, step):
                chosen = {key: str(values[key]) for key in step.each}
                before = [print_ for others, print_ in done if all(chosen.get(k, v) == v for k, v in others.items())]
                jobs.append((chosen, _job(name, step, values, root, before)))
            done += [(chosen, job.fingerprint) for chosen, job in jobs]
            stages.append([job for _, job in jobs])
    return stages


def slug(variant: str) -> str:
    """The name of a variant in paths."""
    return variant.replace(",", "").replace(" ", "_")


def filled(content: object, values: dict) -> object:
    """`content` with each `${key}` replaced; a string that is nothing else becomes the value itself, whatever it is."""
    if isinstance(content, dict):
        return {filled(key, values): filled(value, values) for key, value in content.items()}
    if isinstance(content, list):
        return [filled(value, values) for value in content]
    if not isinstance(content, str):
        return content
    if content.startswith("${") and content.endswith("}") and content.count("$") == 1:
        key = content[2:-1]
        if key in values:
            return filled(values[key], {name: value for name, value in values.items() if name != key})
    try:
        return string.Template(content).substitute(values)
    except (KeyError, ValueError) as problem:
        raise ConfigError(f"{content!r}: {problem} is not known there (known: {', '.join(values)})") from None


def _bindings(study: Study, step: Step) -> list[dict]:
    variants = study.variants.items() if "variant" in step.each else [(None, {})]
    seeds = study.seeds if "seed" in step.each else [None]
    found = []
    for (variant, values), seed in itertools.product(variants, seeds):
        own = {**study.values, **values}
        if variant is not None:
            own["variant"] = slug(variant)
        if seed is not None:
            own["seed"] = seed
        found.append(own)
    return found


def _job(study: str, step: Step, values: dict, root: Path, before: list[str]) -> Job:
    values = {"root": str(root), **values}
    out = Path(str(filled(step.out, values)))
    values["out"] = str(out)
    name = " ".join([study, step.name, *(str(values[key]) for key in step.each)])
    files: dict[Path, dict] = {}
    command = []
    for number, argument in enumerate(filled(step.run, values)):
        if isinstance(argument, dict):
            path = root / "specs" / f"{name.replace(' ', '.')}.{number}.yaml"
            files[path] = argument
            argument = str(path)
        command.append(str(argument))
    content = json.dumps([command, list(files.values()), before], sort_keys=True)
    return Job(name, tuple(command), files, out, hashlib.sha256(content.encode()).hexdigest())
