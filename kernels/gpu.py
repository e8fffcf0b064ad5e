"""What a GPU can tell about this repository, in order of worth, for whoever has one for ten minutes: `make gpu`.

    python kernels/gpu.py                        # all parts
    python kernels/gpu.py check bench            # these
    python kernels/gpu.py --list                 # what would run and what is missing; on any machine
    python kernels/gpu.py serving --run DIR      # a finished training to be served

Each part is a script of this repository, in a process of its own with a time limit. It writes its figures as they come, so that
a machine that is taken away leaves what was measured until then. What a part printed goes into OUT/PART.log, how each ended into
OUT/parts.json. Exit code 1 where there is no GPU or a part does not end well; the others run all the same.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmpt.results import installed
from mmpt.scripts import script_parser
from mmpt.storage import write_json

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("liger-kernel", "nvidia-cutlass-dsl", "cut-cross-entropy", "quack-kernels", "flash-attn", "flash-attn-3", "xformers")
GRACE = 10.0
"""Seconds between asking a part to end and ending it."""


class Part(NamedTuple):
    """A `command` of at most `minutes`; RUN in it stands for a trained run, without which it is left out."""

    name: str
    minutes: float
    command: Sequence[str]


PARTS = (
    Part("check", 2, ("kernels/check.py", "--dtype", "bfloat16")),
    Part("bench", 4, ("kernels/bench.py",)),
    Part("training", 7, ("kernels/training.py", "0.6b-8192", "1.7b-8192", "0.6b-32768", "1.7b-32768")),
    Part("pictures", 2, ("tokenizers/benches/image_encoding.py",)),
    Part("speech", 2, ("tokenizers/benches/speech_encoding.py",)),
    Part("serving", 5, ("recipes/benches/clients.py", "RUN")),
    Part("check-all", 5, ("kernels/check.py",)),
    Part("tune", 10, ("kernels/tune.py",)),
)


def main() -> None:
    parser = script_parser(__doc__)
    names = [part.name for part in PARTS]
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--list", action="store_true", help="say what would run, and what is missing")
    parser.add_argument("--run", type=Path, help="a finished training that is to be served")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="where what the parts print goes")
    parser.add_argument("--minutes", type=float, help="of all parts together; those that are not reached are left out")
    asked = parser.parse_args()
    if unknown := sorted(set(asked.parts) - set(names)):
        parser.error(f"{', '.join(unknown)}: expected {', '.join(names)}")
    chosen = [part for part in PARTS if not asked.parts or part.name in asked.parts]
    missing = [name for name in PEERS if not installed(name)]
    print(f"peers that are not installed, and have no row: {', '.join(missing) or 'none'}")
    if asked.list:
        for part in chosen:
            print(f"{part.name:14} {part.minutes:4g} min  python {' '.join(part.command)}")
        return
    if (name := device()) is None:
        print("no GPU: torch finds none here, and nothing was run (--list says what would)", file=sys.stderr)
        sys.exit(1)
    print(name)
    sys.exit(0 if run(chosen, asked) else 1)


def run(parts: Sequence[Part], asked: argparse.Namespace) -> bool:
    """Each part in turn; whether all ended well."""
    asked.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * asked.minutes if asked.minutes else float("inf")
    ended: dict[str, dict] = {}
    for part in parts:
        left = until - time.monotonic()
        if "RUN" in part.command and asked.run is None:
            how, spent = "left out: --run names no training", 0.0
        elif left <= 0:
            how, spent = "left out: no time", 0.0
        else:
            command = [str(asked.run.resolve()) if word == "RUN" else word for word in part.command]
            how, spent = in_a_process([sys.executable, *command], min(60 * part.minutes, left), asked.out / f"{part.name}.log")
        ended[part.name] = {"ended": how, "seconds": round(spent, 1)}
        print(f"{part.name:14} {spent:7.1f} s  {how}", flush=True)
        write_json(asked.out / "parts.json", ended)  # after each: the next may be the machine's last
    return all(end["ended"] == "ok" or end["ended"].startswith("left out") for end in ended.values())


def in_a_process(command: Sequence[str], seconds: float, log: Path) -> tuple[str, float]:
    """(how it ended, seconds it took) of `command` in the repository; past the limit, it and all that it started are ended."""
    began = time.monotonic()
    with log.open("w", encoding="utf-8") as said:
        around = {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **os.environ}
        child = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT, env=around, start_new_session=True)
        try:
            code = child.wait(seconds)
            how = "ok" if code == 0 else f"exit code {code}, see {log}"
        except subprocess.TimeoutExpired:
            end(child)
            how = f"stopped after {seconds:g} s, see {log}"
        except BaseException:
            end(child)
            raise
    return how, time.monotonic() - began


def end(child: subprocess.Popen) -> None:
    """End the session of `child`: asked first, so that it may write, then at once."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(GRACE)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    child.wait()


def device() -> str | None:
    """The GPU's name as torch has it, asked in a process of its own: here, it would be held through all parts."""
    code = "import json, torch; print(json.dumps(torch.cuda.get_device_name(0) if torch.cuda.is_available() else None))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


if __name__ == "__main__":
    main()
