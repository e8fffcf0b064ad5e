"""What no YAML key and no command reaches is not in the library."""

import ast
from collections import Counter
from pathlib import Path

from mmpt.methods import families

ROOT = Path(__file__).resolve().parent.parent
WORKBENCHES = ("datasets", "tokenizers", "kernels", "recipes", "docs")
# Called by others than our own code: by name from Python, by peft, pydantic, uvicorn or torch.
INTERFACE = {"main", "load", "forward", "backward", "setup_context", "GrammarProcessor"}


def names_used(tree: ast.AST) -> Counter:
    """How often each name is read, imported or taken from something."""
    used: Counter = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            used[node.id] += 1
        elif isinstance(node, ast.Attribute):
            used[node.attr] += 1
        elif isinstance(node, ast.ImportFrom | ast.Import):
            used.update(alias.name.rpartition(".")[2] for alias in node.names)
    return used


def unreached(paths: list[Path], others: list[Path], methods: set[str] = frozenset()) -> list[str]:
    """Public functions and classes at the top of `paths` that nothing there or in `others` names, themselves apart."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in [*paths, *others]}
    used: Counter = sum((names_used(tree) for tree in trees.values()), Counter())
    found = []
    for path in paths:
        for node in trees[path].body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                inside = names_used(node)[node.name]  # one that calls only itself is not reached
                if used[node.name] <= inside and node.name not in INTERFACE and str(path) not in methods:
                    found.append(f"{path.name}: {node.name}")
    return found


def test_every_public_name_is_reached_from_a_command_or_a_recipe():
    library = sorted((ROOT / "mmpt").rglob("*.py"))
    scripts = [path for folder in WORKBENCHES for path in sorted((ROOT / folder).rglob("*.py")) if "benches" not in path.parts]
    # A method is reached by its file's name.
    methods = {
        str(ROOT / f"{family.__module__}.{kind}".replace(".", "/")) + ".py" for family in families() for kind in family.names()
    }
    assert not unreached(library, scripts, methods)


def test_what_nothing_reaches_would_be_found(tmp_path):
    (tmp_path / "a.py").write_text("def lonely():\n    return lonely()\n\ndef wanted():\n    return 1\n")
    (tmp_path / "b.py").write_text("from a import wanted\n")
    assert unreached([tmp_path / "a.py"], [tmp_path / "b.py"]) == ["a.py: lonely"]


def test_every_module_is_imported_by_another():
    library = sorted((ROOT / "mmpt").rglob("*.py"))
    scripts = [path for folder in WORKBENCHES for path in sorted((ROOT / folder).rglob("*.py"))]
    imported = set()
    for path in [*library, *scripts]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
    methods = {f"{family.__module__}.{kind}" for family in families() for kind in family.names()}
    packages = {".".join(path.relative_to(ROOT).parent.parts) for path in library if path.name == "__init__.py"}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in library if path.name != "__init__.py"}
    entry_points = {"mmpt.cli", "mmpt.inference.vllm.grammar_v1", "mmpt.inference.vllm.grammar_v2"}  # the last two: of vLLM
    assert not modules - imported - methods - packages - entry_points
