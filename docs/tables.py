"""Write the tables of the README files anew from the result files: python docs/tables.py

A table stands between `<!-- table: FILE -->` and `<!-- end -->`, FILE being a JSON file written by a bench; what a study found,
between `<!-- study: NAME -->` and `<!-- end -->`; what all of them found, after `<!-- findings -->`; questions, and what was
answered before and after, between `<!-- answers: FILE -->` and `<!-- end -->`.
"""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    ROOT / "README.md",
    ROOT / "datasets" / "README.md",
    ROOT / "tokenizers" / "README.md",
    ROOT / "kernels" / "README.md",
    ROOT / "recipes" / "README.md",
    ROOT / "docs" / "inference.md",
    ROOT / "docs" / "interleaved.md",
    ROOT / "docs" / "speech_out.md",
    *sorted((ROOT / "recipes" / "reproduce").glob("*.md")),
)
STUDIES = ROOT / "recipes" / "results" / "reproduce.json"
WIDEST = 12
"""Columns of a table."""
_FINDINGS = re.compile(r"(<!-- findings -->\n).*?(<!-- end -->)", re.DOTALL)
_STUDY = re.compile(r"(<!-- study: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_ANSWERS = re.compile(r"(<!-- answers: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(path: Path) -> str:
    """Markdown of one result file; a line instead of a table where it is not there."""
    if not path.exists():
        return "Not measured yet.\n"
    result = json.loads(path.read_text(encoding="utf-8"))
    several = len({row["name"].split(": ")[0] for row in result["figures"] if ": " in row["name"]}) > 1
    lines = _list([row for row in result["figures"] if not (several and ": " in row["name"])])
    lines += _grid([row for row in result["figures"] if several and ": " in row["name"]])
    lines += [f"{result['device']}, torch {result['packages']['torch']}, {result['date']}.", ""]
    return "\n".join(lines)


def answers(path: Path) -> str:
    """Markdown of the questions in a result file, what was answered before and what after."""
    found = json.loads(path.read_text(encoding="utf-8")).get("answers", []) if path.exists() else []
    rows = [[_cell(one[key]) for key in ("question", "before", "after")] for one in found]
    lines = ["| question | before | after |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows), ""]
    return "\n".join(lines) if rows else "Not measured yet.\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _list(rows: list[dict]) -> list[str]:
    """A line for each figure, with its bar."""
    lines = ["| figure | value | bar | |", "|---|---|---|---|"]
    for row in rows:
        bar, verdict = "", ""
        if row["bar"] is not None:
            bar, verdict = _bar(row), "ok" if row["ok"] else "**short**"
        lines.append(f"| `{row['name']}` | {row['value']:.4g} | {bar} | {verdict} |")
    return [*lines, ""] if rows else []


def _grid(rows: list[dict]) -> list[str]:
    """A line for each "WHAT" and a column for each "FIGURE" of figures named "WHAT: FIGURE", the other way round where a few have
    many; a bar stands beside its value."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        what, figure = row["name"].split(": ", 1)
        bar = f" ({_bar(row)}{'' if row['ok'] else ', **short**'})" if row["bar"] is not None else ""
        cells.setdefault(what, {})[figure] = f"{row['value']:.4g}{bar}"
    columns = list(dict.fromkeys(figure for line in cells.values() for figure in line))
    if len(columns) > WIDEST and len(cells) <= WIDEST // 2:
        turned = {figure: {what: line[figure] for what, line in cells.items() if figure in line} for figure in columns}
        cells, columns = turned, list(cells)
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {what} | {' | '.join(line.get(column, '') for column in columns)} |" for what, line in cells.items()]
    return [*lines, ""] if rows else []


def studies() -> dict[str, dict]:
    """What each study found, by its name."""
    return json.loads(STUDIES.read_text(encoding="utf-8"))["studies"] if STUDIES.exists() else {}


def study(name: str) -> str:
    """Markdown of what a study found: a line for each figure, the variants beside each other, then what was compared."""
    if name not in studies():
        return "Not measured yet.\n"
    found = studies()[name]
    variants = list(dict.fromkeys(variant for figure in found["figures"].values() for variant in figure))
    mean = f"mean of {len(found['seeds'])} seeds (each)" if len(found["seeds"]) > 1 else "one seed"
    lines = [f"| {mean} | {' | '.join(variants)} |", "|---" * (len(variants) + 1) + "|"]
    for figure, values in found["figures"].items():
        lines.append(f"| {figure} | {' | '.join(_seeds(values.get(variant)) for variant in variants)} |")
    if found["comparisons"]:
        lines += ["", "| claim | difference | 95 % interval | |", "|---|---|---|---|", *map(_claim, found["comparisons"])]
    return "\n".join([*lines, "", f"{found['device']}, torch {found['packages']['torch']}, {found['date']}.", ""])


def findings() -> str:
    """Markdown of every claim that was tried."""
    lines = ["| study | claim | difference | 95 % interval | |", "|---|---|---|---|---|"]
    for name, found in studies().items():
        lines += [f"| [{name}]({name}.md) {_claim(one)}" for one in found["comparisons"]]
    return "\n".join([*lines, ""])


def _claim(one: dict) -> str:
    verdict = "holds" if one["low"] > 0 else "**the opposite holds**" if one["high"] < 0 else "**not shown**"
    claim = f"{one['figure']}: {one['more']} above {one['less']}"
    return f"| {claim} | {one['difference']:.3f} | {one['low']:.3f} … {one['high']:.3f} | {verdict} |"


def _seeds(values: list[float] | None) -> str:
    if values is None:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3f}"
    return f"**{sum(values) / len(values):.3f}** ({', '.join(f'{value:.3f}' for value in values)})"


def _bar(row: dict) -> str:
    return f"{'≤' if row['at_most'] else '≥'} {row['bar']:g}"


def fill(text: str) -> str:
    """`text` with every table made anew."""
    text = _TABLE.sub(lambda found: found[1] + table(ROOT / found[2]) + found[3], text)
    text = _ANSWERS.sub(lambda found: found[1] + answers(ROOT / found[2]) + found[3], text)
    text = _FINDINGS.sub(lambda found: found[1] + findings() + found[2], text)
    return _STUDY.sub(lambda found: found[1] + study(found[2]) + found[3], text)


if __name__ == "__main__":
    for readme in PAGES:
        readme.write_text(fill(readme.read_text(encoding="utf-8")), encoding="utf-8")
