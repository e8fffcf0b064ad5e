"""Scenarios on several ranks, run as tests ask for them: by one process that forks the ranks, once each."""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path


class Results:
    """What the scenarios of a script give, by name. The process ends with its standard input."""

    def __init__(self, script: str, folder: Path):
        self.found, self.folder = {}, folder
        command = [os.environ["WARM_PYTHON"], str(Path(__file__).with_name(script)), str(folder)]
        with open(folder / "errors", "wb") as errors:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def __getitem__(self, name: str) -> object:
        if name not in self.found:
            self.process.stdin.write(f"{name}\n")
            self.process.stdin.flush()
            said = self.process.stdout.readline()
            assert said.strip(), f"{name}: {self.errors[-4000:]}"
            self.found[name] = json.loads(said)
        return self.found[name]

    @property
    def errors(self) -> str:
        """All that was written to standard error."""
        return (self.folder / "errors").read_text(encoding="utf-8")


def answer(scenarios: dict[str, Callable[[Path], object]], prepare: Callable[[Path], None]) -> None:
    """The script's side. What scenarios print goes where errors go."""
    folder = Path(sys.argv[1])
    with open(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        prepare(folder)
        for name in sys.stdin:
            try:
                said = json.dumps(scenarios[name.strip()](folder))
            except Exception:  # the next scenario may do better
                traceback.print_exc()
                sys.stderr.flush()
                said = ""
            print(said, file=answers, flush=True)
