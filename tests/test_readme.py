"""What the README says is what the result files and the tree say."""

import json
import re
import runpy
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_made_from_the_result_files():
    tables = runpy.run_path(str(ROOT / "docs" / "tables.py"))
    for page in tables["PAGES"]:
        content = page.read_text(encoding="utf-8")
        assert tables["fill"](content) == content, f"{page}: run python docs/tables.py"


def test_every_file_that_is_named_exists():
    named = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"<!-- table: (\S+) -->", README)
    missing = [name for name in named if not (ROOT / name).exists()]
    assert named and not missing


def test_verdicts_follow_from_values_and_bars():
    for path in ROOT.glob("*/results/*.json"):
        for row in json.loads(path.read_text(encoding="utf-8"))["figures"]:
            if row["bar"] is not None:
                met = row["value"] <= row["bar"] if row["at_most"] else row["value"] >= row["bar"]
                assert row["ok"] == met, f"{path.name}: {row['name']}"
