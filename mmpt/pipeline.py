"""Stages of a long recipe: done ones are skipped, time and memory are kept, child processes are watched."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.progress import Progress

from mmpt.errors import MmptError
from mmpt.storage import read_json, write_json

_POLL = 1.0  # seconds


class Pipeline:
    """Runs named stages in order and records each in `folder`/stages.json.

    A stage whose settings are those of the record, and before which nothing was run again, is skipped. Time spent in a stage
    that was interrupted counts too.
    """

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / "stages.json"
        self.records: dict[str, dict] = read_json(self.path) if self.path.exists() else {}
        self.stale = False

    def run(self, name: str, settings: object, work: Callable[[], None], outputs: Sequence[str] = ()) -> None:
        """Do `work` unless it is done. `settings` (JSON values) are all that its result depends on besides earlier stages.

        `outputs` are the subfolders that it fills and goes on from when it was interrupted; they are removed where it starts
        anew, so that nothing made with other settings is taken for its own.
        """
        fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
        record = self.records.get(name, {})
        if record.get("settings") != fingerprint:
            record = {}
        if record.get("done") and not self.stale:
            return
        if record.get("done") or not record:  # made from inputs that are no more, or never begun
            record = {"seconds": 0.0, "peak_rss_gib": 0.0}
            self.stale = True
            for output in outputs:
                shutil.rmtree(self.folder / output, ignore_errors=True)
        began = time.monotonic()
        with _MemoryWatch() as memory:
            done = False
            try:
                work()
                done = True
            finally:  # also after Ctrl-C: the time spent so far counts
                self.records[name] = {
                    "settings": fingerprint,
                    "done": done,
                    "seconds": round(record["seconds"] + time.monotonic() - began, 2),
                    "peak_rss_gib": round(max(record["peak_rss_gib"], memory.peak / 2**30), 3),
                }
                write_json(self.path, self.records)

    @property
    def seconds(self) -> float:
        """Wall time of all stages."""
        return round(sum(record["seconds"] for record in self.records.values()), 2)

    @property
    def peak_rss_gib(self) -> float:
        """Largest sum of resident memory over this process and its children, in GiB."""
        return max((record["peak_rss_gib"] for record in self.records.values()), default=0.0)


class _MemoryWatch:
    """Samples the resident memory of the process tree in a thread; `peak` in bytes. Shared pages count once for each process."""

    def __enter__(self) -> "_MemoryWatch":
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        root = psutil.Process()
        while True:
            total = 0
            for process in (root, *root.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)
            if self._stop.wait(_POLL):
                return


@dataclass(frozen=True)
class Child:
    """A process to run: `command`, its progress read from the newest "step" in the JSON lines of each file of `metrics`, `steps`
    in all of them together. `finished` is called when it has ended with code 0."""

    title: str
    command: Sequence[str]
    metrics: Sequence[Path]
    steps: int
    log: Path
    finished: Callable[[], None] = lambda: None


def run_children(children: Sequence[Child], progress: Progress, threads: int = 1, at_once: int | None = None) -> None:
    """Run the processes side by side, `at_once` at a time (all by default), each with `threads` CPU threads, and show their
    progress.

    Raises `MmptError` with the end of its log where one fails; the others are ended then. An interrupt is passed on to the
    children, which save what they have, before it is raised here.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    waiting, running = list(children), []

    def start(child: Child) -> tuple[Child, subprocess.Popen, int]:
        child.log.parent.mkdir(parents=True, exist_ok=True)
        with open(child.log, "ab") as log:
            process = subprocess.Popen(
                list(child.command),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
            )
        return child, process, progress.add_task(child.title, total=child.steps)

    try:
        while waiting or running:
            while waiting and (at_once is None or len(running) < at_once):
                running.append(start(waiting.pop(0)))
            time.sleep(_POLL)
            for child, process, task in list(running):
                progress.update(task, completed=sum(map(_steps_done, child.metrics)))
                code = process.poll()
                if code == 0:
                    progress.update(task, completed=child.steps)
                    running.remove((child, process, task))
                    child.finished()
                elif code is not None:
                    tail = child.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-12:]
                    raise MmptError(f"{child.title} ended with code {code}; the end of {child.log}:\n  " + "\n  ".join(tail))
    finally:
        for _, process, _ in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)  # a shell that starts us in the background has SIGINT ignored
        for _, process, _ in running:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _steps_done(metrics: Path) -> int:
    """The step in the last whole line of a JSON lines file; 0 where there is none."""
    try:
        with open(metrics, "rb") as file:
            file.seek(max(0, metrics.stat().st_size - 4096))
            lines = file.read().split(b"\n")[:-1]
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except (OSError, ValueError, KeyError):
        return 0
