"""Write the tables of README.md and tokenizers/README.md anew from the result files: python docs/tables.py

A table stands between `<!-- table: FILE -->` and `<!-- end -->`, FILE being a JSON file written by a bench.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "tokenizers" / "README.md")
_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(path: Path) -> str:
    """Markdown of one result file; a line instead of a table where it is not there."""
    if not path.exists():
        return "Not measured yet.\n"
    result = json.loads(path.read_text(encoding="utf-8"))
    lines = ["| figure | value | bar | |", "|---|---|---|---|"]
    for row in result["figures"]:
        bar, verdict = "", ""
        if row["bar"] is not None:
            bar, verdict = f"{'≤' if row['at_most'] else '≥'} {row['bar']:g}", "ok" if row["ok"] else "**short**"
        lines.append(f"| `{row['name']}` | {row['value']:.4g} | {bar} | {verdict} |")
    lines += ["", f"{result['device']}, torch {result['packages']['torch']}, {result['date']}.", ""]
    return "\n".join(lines)


def fill(text: str) -> str:
    """`text` with every table made anew."""
    return _TABLE.sub(lambda found: found[1] + table(ROOT / found[2]) + found[3], text)


if __name__ == "__main__":
    for readme in PAGES:
        readme.write_text(fill(readme.read_text(encoding="utf-8")), encoding="utf-8")
