"""A suite: a list of benchmarks in a YAML file, each run on a model, its results kept as JSON, its examples as shards."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydantic

from mmpt.config import Schema
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document
from mmpt.errors import MmptError
from mmpt.evaluation.suite import captions, interleaved, loss, membership, pairs, questions, speech
from mmpt.evaluation.suite.base import Result
from mmpt.results import environment
from mmpt.storage import read_json, write_json

if TYPE_CHECKING:
    from mmpt.inference.load import MultimodalModel

FORMAT = "mmpt-evaluation/2"
RUNNERS = {
    pairs.PairsConfig: pairs.run,
    speech.RecognitionConfig: speech.run,
    questions.SpokenQuestionsConfig: questions.run_spoken,
    questions.ProbingConfig: questions.run_probing,
    questions.MultiImageConfig: questions.run_multi_image,
    captions.CaptionsConfig: captions.run_captions,
    captions.RetrievalConfig: captions.run_retrieval,
    membership.MembershipConfig: membership.run,
    interleaved.InterleavedConfig: interleaved.run,
    loss.LossConfig: loss.run,
}
AnyBenchmark = Annotated[
    pairs.PairsConfig
    | speech.RecognitionConfig
    | questions.SpokenQuestionsConfig
    | questions.ProbingConfig
    | questions.MultiImageConfig
    | captions.CaptionsConfig
    | captions.RetrievalConfig
    | membership.MembershipConfig
    | interleaved.InterleavedConfig
    | loss.LossConfig,
    pydantic.Field(discriminator="kind"),
]


class SuiteConfig(Schema):
    """Benchmarks, of different names. Paths are relative to the directory in which the suite is started."""

    benchmarks: list[AnyBenchmark] = pydantic.Field(min_length=1)

    @pydantic.model_validator(mode="after")
    def _names(self) -> "SuiteConfig":
        names = [one.name for one in self.benchmarks]
        if len(set(names)) < len(names):
            raise ValueError("benchmarks: two of them have the same name")
        return self


def run_suite(config: SuiteConfig, model: "MultimodalModel", name: str, out: Path, checkpoint: str = "") -> list[str]:
    """Run every benchmark on `model`, called `name`; write `out`/results.json, and in `out`/examples, for each benchmark,
    document shards of what was asked and answered. Returns what could not be run, with the reason; the others are run all the
    same.

    Each result is written when it is there. Killed, the same call (suite, name, and `checkpoint`, which says which weights these
    are) goes on after the last one; a suite that was finished is run anew.
    """
    path = out / "results.json"
    asked = {"format": FORMAT, "model": name, "checkpoint": checkpoint, "suite": config.model_dump(mode="json")}
    results = _left_off(path, asked)
    out.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []

    def write(finished: str | None) -> None:
        content = {"results": list(results.values()), "failed": failed, "finished": finished}
        write_json(path, {**asked, **content, **environment(["torch", "transformers"])})

    for number, benchmark in enumerate(config.benchmarks):
        if benchmark.name in results:
            print(f"{benchmark.name}: already there", flush=True)
            continue
        try:
            result = RUNNERS[type(benchmark)](benchmark, model)
        except MmptError as problem:
            failed.append(f"{benchmark.name}: {problem}")
            print(f"{benchmark.name}: not run: {problem}", flush=True)
            continue
        print("\n".join(lines(result)), flush=True)
        examples = f"examples/{number:03d}"
        _write_examples(result, out / examples)
        results[benchmark.name] = {
            "name": result.name,
            "method": result.method,
            "measures": [vars(measure) for measure in result.measures],
            "items": len(result.outcomes),
            "missing": list(result.missing),
            "examples": examples,
        }
        write(None)
    results = {one.name: results[one.name] for one in config.benchmarks if one.name in results}
    write(datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
    return failed


def _left_off(path: Path, asked: dict) -> dict[str, dict]:
    """The results by name of a suite that was asked the same and not finished."""
    content = read_json(path) if path.exists() else {}
    same = all(content.get(key) == value for key, value in asked.items())
    return {one["name"]: one for one in content["results"]} if same and content["finished"] is None else {}


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
