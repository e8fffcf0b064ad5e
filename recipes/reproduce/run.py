"""Try a paper's finding at small scale: python recipes/reproduce/run.py recipes/reproduce/interleaving.yaml [KEY=VALUE ...]

Every step is a command of this project. Steps that are done are skipped; after Ctrl-C the same command goes on where it was. The
figures of all variants and seeds, and the intervals of what is compared, go to recipes/results/reproduce.json (`--results`).
"""

import argparse
import shutil
import signal
import sys
from pathlib import Path

import findings
import yaml
from rich.progress import Progress
from study import Job, load_study, plan

from mmpt.pipeline import Child, run_children
from mmpt.progress import progress_bars
from mmpt.scripts import add_overrides, main_guard
from mmpt.storage import read_json, write_bytes, write_json

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "recipes" / "results" / "reproduce.json"


@main_guard
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    add_overrides(parser)
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"))
    parser.add_argument("--at-once", type=int, default=2, help="commands that run side by side, on one core each")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):  # also where the shell started us with SIGINT ignored
        signal.signal(number, interrupt)
    studies = load_study(arguments.study, arguments.overrides)
    try:
        with progress_bars() as progress:
            for jobs in plan(studies, arguments.out):
                run_jobs(jobs, arguments.out, arguments.at_once, progress)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        sys.exit(130)
    name, study = studies[-1]
    found = findings.of_study(study, arguments.out)
    findings.write(arguments.results, name, found)
    print("\n".join(findings.lines(found)))
    sys.exit(0 if all(one["holds"] for one in found["comparisons"]) else 1)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def run_jobs(jobs: list[Job], root: Path, at_once: int, progress: Progress) -> None:
    """Those that are not done, side by side."""
    left = [job for job in jobs if not is_done(job, root)]
    for job in left:
        record = record_of(job, root)
        if record.exists() and read_json(record)["fingerprint"] != job.fingerprint:
            shutil.rmtree(job.out, ignore_errors=True)  # made with other settings
        write_json(record, {"fingerprint": job.fingerprint, "done": False})
        for path, content in job.files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, yaml.safe_dump(content, sort_keys=False).encode())
    children = [
        Child(
            title=job.name,
            command=[sys.executable, *words(job.command)],
            metrics=[],
            steps=1,
            log=root / "logs" / f"{job.name.replace(' ', '.')}.log",
            finished=lambda job=job: write_json(record_of(job, root), {"fingerprint": job.fingerprint, "done": True}),
        )
        for job in left
    ]
    run_children(children, progress, at_once=at_once)


def words(command: tuple[str, ...]) -> list[str | Path]:
    """`command` for Python: `mmpt`, or a script of this repository. The library is run as a module: a script's own folder comes
    first on the path, and the one of mmpt/ would hide the package `tokenizers`."""
    program, *arguments = command
    return ["-m", "mmpt.cli", *arguments] if program == "mmpt" else [ROOT / program, *arguments]


def is_done(job: Job, root: Path) -> bool:
    record = record_of(job, root)
    return job.out.exists() and record.exists() and read_json(record) == {"fingerprint": job.fingerprint, "done": True}


def record_of(job: Job, root: Path) -> Path:
    path = root / "done" / f"{job.name.replace(' ', '.')}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


if __name__ == "__main__":
    main()
