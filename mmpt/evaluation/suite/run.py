"""A suite: a list of benchmarks in a YAML file, each run on a model, its results kept as JSON, its examples as shards."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pydantic

from mmpt.config import Schema
from mmpt.data.shards.write import ShardWriter
from mmpt.document import Document
from mmpt.errors import MmptError
from mmpt.evaluation.suite import captions, interleaved, loss, membership, pairs, questions, speech
from mmpt.evaluation.suite.base import Result
from mmpt.inference.load import MultimodalModel
from mmpt.results import environment
from mmpt.storage import write_json

FORMAT = "mmpt-evaluation/1"
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


def run_suite(config: SuiteConfig, model: MultimodalModel, name: str, out: Path) -> list[str]:
    """Run every benchmark on `model`, called `name`; write `out`/results.json, and `out`/examples, document shards of what was
    asked and answered. Returns what could not be run, with the reason; the others are run all the same."""
    results: list[Result] = []
    failed: list[str] = []
    for benchmark in config.benchmarks:
        try:
            results.append(RUNNERS[type(benchmark)](benchmark, model))
            print("\n".join(lines(results[-1])), flush=True)
        except MmptError as problem:
            failed.append(f"{benchmark.name}: {problem}")
            print(f"{benchmark.name}: not run: {problem}", flush=True)
    out.mkdir(parents=True, exist_ok=True)
    _write_examples(results, out / "examples")
    write_json(
        out / "results.json",
        {
            "format": FORMAT,
            "model": name,
            "suite": config.model_dump(mode="json"),
            "results": [
                {
                    "name": one.name,
                    "method": one.method,
                    "measures": [{**vars(measure)} for measure in one.measures],
                    "items": len(one.outcomes),
                    "missing": list(one.missing),
                }
                for one in results
            ],
            "failed": failed,
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            **environment(["torch", "transformers"]),
        },
    )
    return failed


def lines(result: Result) -> list[str]:
    """A result for the terminal."""
    found = [f"{result.name} ({len(result.outcomes)} items{f', {len(result.missing)} missing' if result.missing else ''})"]
    for one in result.measures:
        found.append(f"  {one.name:40} {one.value:8.4f}  [{one.low:.4f}, {one.high:.4f}]")
    return found


def _write_examples(results: Sequence[Result], folder: Path) -> None:
    with ShardWriter(folder, built={"evaluation": FORMAT}) as writer:
        for result in results:
            for number, one in enumerate(result.outcomes):
                meta = {"benchmark": result.name, "item": one.item, "asked": len(one.asked), "expected": one.expected}
                meta |= {"found": one.found, "score": one.score}
                writer.write(Document(f"{result.name}/{number}", result.name, (*one.asked, *one.answered), meta))
