"""A suite: benchmarks run one after the other on a model, its results kept as JSON, its examples as shards."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from mmpt.config import Schema, parse_config, read_yaml
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document
from mmpt.errors import DataError, MmptError
from mmpt.evaluation.benchmarks import Benchmark, Result
from mmpt.results import environment
from mmpt.storage import read_json, write_json

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

FORMAT = "mmpt-evaluation/3"
RUN = "{run}"
"""Stands in a suite for the folder of the run that is measured."""


class SuiteConfig(Schema):
    """What is measured of a model."""

    benchmarks: list[Benchmark] = pydantic.Field(min_length=1)
    """Benchmarks, of different names. Paths are relative to the directory in which the suite is started; `{run}` in them is the
    folder of the run."""

    @pydantic.model_validator(mode="after")
    def _names(self) -> "SuiteConfig":
        names = [one.name for one in self.benchmarks]
        if len(set(names)) < len(names):
            raise ValueError("benchmarks: two of them have the same name")
        return self


def load_suite(path: Path, run: Path) -> SuiteConfig:
    """The suite in `path`, for the run in the folder `run`. Raises `ConfigError` with every mistake in it."""
    return parse_config(_of_run(read_yaml(path), str(run)), SuiteConfig, str(path))


def _of_run(value: Any, run: str) -> Any:
    if isinstance(value, dict):
        return {key: _of_run(one, run) for key, one in value.items()}
    if isinstance(value, list):
        return [_of_run(one, run) for one in value]
    return value.replace(RUN, run) if isinstance(value, str) else value


def run_suite(
    config: SuiteConfig,
    model: "MultimodalModel",
    name: str,
    out: Path,
    checkpoint: str = "",
    tell: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[str]:
    """Run every benchmark on `model`, called `name`; write `out`/results.json, and in `out`/examples, for each benchmark,
    document shards of what was asked and answered. Returns what could not be run, with the reason; the others are run all the
    same. `tell` is called once for each benchmark with what became of it.

    Each result is written when it is there. Killed, the same call (suite, name, and `checkpoint`, which says which weights these
    are) goes on after the last one, and measures again what another version of its benchmark has measured; a suite that was
    finished is run anew.
    """
    path = out / "results.json"
    asked = {"format": FORMAT, "model": name, "checkpoint": checkpoint, "suite": config.model_dump(mode="json")}
    results = _left_off(path, asked, config)
    out.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []

    def write(finished: str | None) -> None:
        content = {"results": list(results.values()), "failed": failed, "finished": finished}
        write_json(path, {**asked, **content, **environment(["torch", "transformers"])})

    for number, benchmark in enumerate(config.benchmarks):
        if benchmark.name in results:
            tell(f"{benchmark.name}: already there")
            continue
        try:
            result = benchmark.run(model)
        except MmptError as problem:
            failed.append(f"{benchmark.name}: {problem}")
            tell(f"{benchmark.name}: not run: {problem}")
            continue
        tell("\n".join(lines(result)))
        # The examples first: what stands in results.json has all of its files, whenever the suite is killed.
        examples = f"examples/{number:03d}"
        _write_examples(result, out / examples)
        results[benchmark.name] = {
            "name": result.name,
            "kind": benchmark.kind,
            "version": benchmark.version,
            "method": result.method,
            "measures": [vars(measure) for measure in result.measures],
            "items": len(result.outcomes),
            "missing": list(result.missing),
            "counts": list(result.counts),
            "examples": examples,
        }
        write(None)
    results = {one.name: results[one.name] for one in config.benchmarks if one.name in results}
    write(datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    return failed


def read_results(folder: Path) -> dict[str, Any]:
    """What `run_suite` wrote into `folder`. Raises `DataError` where it wrote nothing, or another version of it did."""
    content = read_json(folder / "results.json")
    if content.get("format") != FORMAT:
        raise DataError(f"{folder}/results.json: format is {content.get('format')!r}, expected {FORMAT!r}")
    return content


def suite_figures(folder: Path) -> dict[str, float]:
    """Every figure that `run_suite` wrote into `folder`, rounded to 4 places, by its benchmark and measure: `WER` of
    `speech_to_text` is `speech_to_text_wer`."""
    return {
        f"{one['name']} {measure['name']}".lower().replace(" ", "_"): round(measure["value"], 4)
        for one in read_results(folder)["results"]
        for measure in one["measures"]
    }


def _left_off(path: Path, asked: dict[str, Any], config: SuiteConfig) -> dict[str, dict[str, Any]]:
    """The results by name of a suite that was asked the same and not finished, of benchmarks as they are today."""
    content = read_json(path) if path.exists() else {}
    # Through JSON, as it was written: a tuple of a benchmark's settings is a list there.
    same = all(content.get(key) == json.loads(json.dumps(value)) for key, value in asked.items())
    if not same or content["finished"] is not None:
        return {}
    versions = {one.name: one.version for one in config.benchmarks}
    return {one["name"]: one for one in content["results"] if one["version"] == versions[one["name"]]}


def lines(result: Result) -> list[str]:
    """A result for the terminal."""
    found = [f"{result.name} ({len(result.outcomes)} items{f', {len(result.missing)} missing' if result.missing else ''})"]
    for one in result.measures:
        found.append(f"  {one.name:40} {one.value:8.4f}  [{one.low:.4f}, {one.high:.4f}]")
    return found


def _write_examples(result: Result, folder: Path) -> None:
    with ShardWriter(folder, built={"evaluation": FORMAT}) as writer:
        for number, one in enumerate(result.outcomes):
            meta = {"item": one.item, "asked": len(one.asked), "expected": one.expected, "found": one.found, "score": one.score}
            writer.write(Document(f"{result.name}/{number}", result.name, (*one.asked, *one.answered), meta))
