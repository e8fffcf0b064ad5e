"""Fetch packages as wheels into a folder, for a machine with a GPU and without a network.

    python kernels/wheels.py wheels                          # the peers of kernels/bench.py
    python kernels/wheels.py wheels liger-kernel xformers    # these
    python kernels/wheels.py wheels --with-dependencies      # and what they need, by constraints.txt

There: `pip install --no-index --find-links wheels NAME`. FOLDER/wheels.json lists files and bytes. A package that cannot be had
as a wheel is named, the others are fetched, and the exit code is 1.
"""

import subprocess
import sys
from pathlib import Path

from mmpt.scripts import script_parser
from mmpt.storage import write_json

ROOT = Path(__file__).resolve().parent.parent
PEERS = ("liger-kernel", "nvidia-cutlass-dsl", "cut-cross-entropy", "quack-kernels")


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("packages", nargs="*", default=list(PEERS), help="names, with or without a version")
    parser.add_argument("--with-dependencies", action="store_true", help="fetch what the packages need, too")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    lost = [name for name in asked.packages if not fetch(name, asked.folder, asked.with_dependencies)]
    wheels = {path.name: path.stat().st_size for path in sorted(asked.folder.glob("*.whl"))}
    for name, size in wheels.items():
        print(f"{size / 1e6:9.1f} MB  {name}")
    print(f"{sum(wheels.values()) / 1e6:9.1f} MB  in {len(wheels)} wheels")
    write_json(asked.folder / "wheels.json", {"wheels": wheels, "missing": lost})
    if lost:
        print(f"not to be had as wheels: {', '.join(lost)}", file=sys.stderr)
        sys.exit(1)


def fetch(name: str, folder: Path, dependencies: bool) -> bool:
    """Whether pip put the wheel of `name` into `folder`; the version is that of constraints.txt where it has one."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(folder)]
    command += ["--constraint", str(ROOT / "constraints.txt"), *([] if dependencies else ["--no-deps"]), name]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    main()
