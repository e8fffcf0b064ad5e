"""From nothing to a model that reads and writes text, speech and pictures: python recipes/quickstart.py [CONFIG] [KEY=VALUE ...]

Builds shards, trains a speech and an image tokenizer, turns the shards into tokens, pretrains and finetunes a decoder LLM on
two DeepSpeed ranks, evaluates it on held-out data and writes `report.html` and `metrics.json` into the run folder. Stages that
are done are skipped; after Ctrl-C the same command goes on where it was.
"""

import os
import signal
import sys
from functools import partial
from pathlib import Path
from typing import Literal

import yaml
from rich.progress import Progress

from mmpt.config import Schema, load_config, read_yaml
from mmpt.data.arrange import Arrangement
from mmpt.data.build import BuildConfig, build
from mmpt.data.engine.run import RunConfig
from mmpt.errors import DataError
from mmpt.pipeline import Child, Pipeline, run_children
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard, script_parser
from mmpt.storage import read_json, write_bytes, write_json

ROOT = Path(__file__).resolve().parent.parent


class Corpus(Schema):
    """Held-out data is read only by the evaluation."""

    train: BuildConfig
    test: BuildConfig
    text_vocabulary: int


class LanguageModelStage(Schema):
    """Sequences made of each of the first `documents`, and the settings of the recipe (see recipes/pretrain.yaml)."""

    arrangements: tuple[Arrangement, ...]
    settings: dict
    documents: int | None = None


class Prompts(Schema):
    """What is asked in the evaluation, in the words of the finetuning arrangements: the text tokenizer learns them, too."""

    speech_to_text: str
    text_to_speech: str
    image_to_text: str
    text_to_image: str


class QuickstartConfig(Schema):
    """All that the quickstart does. `ranks` processes train the LLM; `speech` and `image` are specs of tokenizers/train.py."""

    run: Path
    ranks: int
    corpus: Corpus
    speech: dict
    image: dict
    pretrain: LanguageModelStage
    finetune: LanguageModelStage
    prompts: Prompts
    suite: Path
    """The suite that measures the result, relative to the folder of this file; see recipes/evaluate_quickstart.yaml."""


@main_guard
def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("config", type=Path, nargs="?", default=ROOT / "recipes" / "quickstart.yaml", help="YAML file")
    add_overrides(parser)
    arguments = parser.parse_args()
    config = load_config(arguments.config, QuickstartConfig, arguments.overrides)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where the shell started us with SIGINT ignored
        signal.signal(number, interrupt)
    run = config.run
    pipeline = Pipeline(run)
    settings = config.model_dump(mode="json")
    print(announcement(arguments.config, pipeline), flush=True)
    try:
        with progress_bars() as progress:
            arranged = [[settings[name][key] for key in ("arrangements", "documents")] for name in ("pretrain", "finetune")]
            stages = (  # name, what it depends on, what it does, the folders it fills
                ("corpus", settings["corpus"], make_corpus, ["shards", "text_tokenizer"]),
                (
                    "tokenizers",
                    [settings["speech"], settings["image"]],
                    train_tokenizers,
                    ["speech_tokenizer", "image_tokenizer"],
                ),
                ("tokens", arranged, make_tokens, ["tokens"]),
                ("pretrain", settings["pretrain"], partial(train_model, name="pretrain"), ["pretrain"]),
                ("finetune", settings["finetune"], partial(train_model, name="finetune"), ["finetune"]),
                ("evaluate", read_yaml(ROOT / "recipes" / config.suite), evaluate, ["evaluation"]),
            )
            for name, depends, work, outputs in stages:
                pipeline.run(name, depends, partial(work, config, progress), outputs)
    except KeyboardInterrupt:
        print(f"interrupted; the same command goes on where it was ({run})", file=sys.stderr)
        sys.exit(130)
    finish(config, pipeline)


def announcement(config: Path, pipeline: Pipeline) -> str:
    """What this will take, from the figures of the last measured run of this configuration."""
    found = ROOT / "recipes" / "results" / f"{config.stem}.json"
    known = read_json(found) if found.exists() else {"figures": []}
    figures = {figure["name"]: figure["value"] for figure in known["figures"]}
    took = ""
    if "seconds" in figures:
        took = f"; it took {figures['seconds'] / 60:.0f} minutes and {figures['peak_rss_gib']:.0f} GiB on {known['device']}"
    done = [name for name, record in pipeline.records.items() if record.get("done")]
    begun = f"\ndone before: {', '.join(done)}" if done else ""
    stop = "Stop it whenever you like: the same command goes on."
    return f"Six stages{took}. {stop}{begun}\n{pipeline.folder / 'report.html'} at the end"


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def make_corpus(config: QuickstartConfig, progress: Progress) -> None:
    """Document shards of the training and the held-out side, and a text tokenizer trained on the former."""
    from mmpt.data.shards.read import DocumentShards
    from mmpt.document import Text
    from mmpt.tokenizers.text import train_text_tokenizer

    processes = RunConfig(processes=os.cpu_count())
    build(config.corpus.train, config.run / "shards" / "train", processes, progress, "corpus: training side")
    build(config.corpus.test, config.run / "shards" / "test", processes, progress, "corpus: held-out side")
    documents = DocumentShards(config.run / "shards" / "train")
    texts = [part.text for document in documents for part in document.parts if isinstance(part, Text)]
    prompts = list(config.prompts.model_dump().values())
    # Prompts are rare beside captions: repeated, so that each of their words becomes a token too.
    train_text_tokenizer(texts + prompts * 100, config.corpus.text_vocabulary).save_pretrained(config.run / "text_tokenizer")


def train_tokenizers(config: QuickstartConfig, progress: Progress) -> None:
    """Both modality tokenizers side by side, each on one core."""
    shards = {"data": [str(config.run / "shards" / "train")]}
    speech = {**config.speech, **shards, "text_tokenizer": str(config.run / "text_tokenizer")}
    children = []
    for name, spec in (("speech_tokenizer", speech), ("image_tokenizer", {**config.image, **shards})):
        path = write_yaml(config.run / f"{name}.yaml", spec)
        command = [sys.executable, ROOT / "tokenizers" / "train.py", path, config.run / name]
        log = config.run / "logs" / f"{name}.log"
        fits = [spec[key] for key in ("fit", "speak") if spec.get(key)] + [one["fit"] for one in spec.get("stages", {}).values()]
        stages = ("recognition", "speaking", *spec.get("stages", {}))
        metrics = [config.run / name / stage / "metrics.jsonl" for stage in stages]
        steps = sum(one["steps"] for one in fits)
        children.append(Child(name.replace("_", " "), command, metrics, steps, log))
    run_children(children, progress)


def make_tokens(config: QuickstartConfig, progress: Progress) -> None:
    """Token shards for both trainings: the same documents, arranged differently."""
    import torch

    from mmpt.data.curate.job import curate
    from mmpt.data.curate.steps.to_tokens import ToTokens

    torch.set_num_threads(1)  # utterances and pictures are small: more threads only wait for each other
    processes = RunConfig(processes=os.cpu_count())
    for name, stage in (("pretrain", config.pretrain), ("finetune", config.finetune)):
        step = ToTokens(
            text=str(config.run / "text_tokenizer"),
            speech=config.run / "speech_tokenizer" / "tokenizer",
            image=config.run / "image_tokenizer" / "tokenizer",
            arrangements=stage.arrangements,
            documents=stage.documents,
        )
        shards, out = config.run / "shards" / "train", config.run / "tokens" / name
        curate(step, [shards], out, processes, progress, f"tokens: {name}")


def train_model(config: QuickstartConfig, progress: Progress, name: Literal["pretrain", "finetune"]) -> None:
    """recipes/train.py on `ranks` processes."""
    settings = {
        **getattr(config, name).settings,
        "data": [{"path": str(config.run / "tokens" / name)}],
        "text_tokenizer": str(config.run / "text_tokenizer"),
        "speech_tokenizer": str(config.run / "speech_tokenizer" / "tokenizer"),
        "image_tokenizer": str(config.run / "image_tokenizer" / "tokenizer"),
        "output": str(config.run / name),
    }
    if name == "finetune":
        settings["from"] = str(config.run / "pretrain" / "checkpoints" / f"step-{config.pretrain.settings['steps']:08d}")
    path = write_yaml(config.run / f"{name}.yaml", settings)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={config.ranks}"]
    command = [*launch, ROOT / "recipes" / "train.py", path]
    log = config.run / "logs" / f"{name}.log"
    run_children([Child(name, command, [config.run / name / "metrics.jsonl"], settings["steps"], log)], progress)


def evaluate(config: QuickstartConfig, progress: Progress) -> None:
    """Figures and examples on the held-out side, kept in `evaluation/` for the report."""
    import torch

    from mmpt.evaluation.suite import load_suite, run_suite
    from mmpt.inference.load import load

    torch.set_num_threads(1)
    suite = load_suite(ROOT / "recipes" / config.suite, config.run)
    task = progress.add_task("evaluation", total=len(suite.benchmarks))
    out = config.run / "evaluation"
    failed = run_suite(suite, load(config.run / "finetune"), str(config.run), out, tell=lambda _: progress.advance(task))
    if failed:
        raise DataError("\n".join(failed))


def finish(config: QuickstartConfig, pipeline: Pipeline) -> None:
    """`metrics.json` and `report.html` from what the stages left; `checkpoints` for `mmpt generate RUN`."""
    from mmpt.evaluation.pages.quickstart import write_report
    from mmpt.evaluation.suite import suite_figures

    figures = suite_figures(config.run / "evaluation")
    metrics = {"seconds": pipeline.seconds, "peak_rss_gib": pipeline.peak_rss_gib, **figures}
    metrics["stages"] = {name: record["seconds"] for name, record in pipeline.records.items()}
    write_json(config.run / "metrics.json", metrics)
    write_report(config.run, metrics)
    if not (config.run / "checkpoints").exists():
        (config.run / "checkpoints").symlink_to(Path("finetune") / "checkpoints")
    for name, value in metrics.items():
        if not isinstance(value, dict):
            print(f"{name:32} {value:.4g}")
    print(f"report: {config.run / 'report.html'}")


def write_yaml(path: Path, content: dict) -> Path:
    write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode())
    return path


if __name__ == "__main__":
    main()
