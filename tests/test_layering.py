"""Imports run downwards only, and the workbench folders shadow no library."""

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BASE = {"errors", "storage", "document", "codebooks", "vocabulary", "config", "media", "methods", "modality", "html", "chat"}
BASE |= {"checkpoint_section"}
# What each room may import of mmpt besides itself.
MAY_IMPORT = {
    "errors": set(),
    "storage": {"errors"},
    "document": {"errors"},
    "media": {"errors"},
    "config": {"errors"},
    "methods": {"errors", "config"},
    "modality": {"document"},
    "html": {"document"},
    "codebooks": set(),
    "checkpoint_section": {"errors", "storage", "config"},
    "vocabulary": {"errors", "storage", "codebooks"},
    "chat_template": {"errors"},
    "chat": {"errors", "checkpoint_section", "config", "document", "vocabulary", "chat_template"},
    "scripts": {"errors"},
    "progress": set(),
    "pipeline": BASE,
    "results": {"storage", "kernels"},
    "kernels": set(),
    "layers": {"kernels"},
    "tokenizers": BASE | {"kernels", "layers"},
    "data": BASE | {"tokenizers", "progress"},
    "model": BASE | {"kernels", "layers", "data", "tokenizers", "chat_template"},
    "training": BASE | {"kernels", "layers", "data", "tokenizers", "model", "inference", "evaluation", "progress", "catalogue"},
    "inference": BASE | {"kernels", "data", "tokenizers", "model"},
    "improvement": BASE | {"data", "tokenizers", "model", "training", "inference"},
    "evaluation": BASE | {"kernels", "data", "tokenizers", "model", "inference", "progress", "results"},
    "doctor": {"kernels"},
    "catalogue": {"errors", "methods"},
    "commands": BASE | {"scripts", "progress", "tokenizers", "model", "inference", "evaluation"},
    "cli": BASE | {"commands", "scripts", "doctor", "catalogue", "model", "training"},
}
KERNELS_MAY_USE = {"torch", "triton", "xformers"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def violations(path: Path, room: str) -> list[str]:
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("mmpt.")} & set(MAY_IMPORT)
    return [f"{path}: {room} must not import {other}" for other in sorted(rooms - {room} - MAY_IMPORT[room])]


def test_imports_run_downwards():
    found = []
    for path in sorted((ROOT / "mmpt").rglob("*.py")):
        room = path.relative_to(ROOT / "mmpt").parts[0].removesuffix(".py")
        if room != "__init__":
            assert room in MAY_IMPORT, f"{path}: say in this test what {room} may import"
            found += violations(path, room)
    assert not found, "\n".join(found)


def imported_at_start(path: Path) -> set[str]:
    """What a module imports as it is imported itself: not in functions, and not for type checkers alone."""
    names: set[str] = set()

    def visit(body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.ImportFrom) and node.module:
                names.update({node.module}, (f"{node.module}.{alias.name}" for alias in node.names))
            elif isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.Try | ast.With) or (
                isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.unparse(node.test)
            ):
                visit(node.body)

    visit(ast.parse(path.read_text(encoding="utf-8")).body)
    return names


def order_of_imports(folder: Path) -> list[str]:
    """The modules of a package, each behind those that it imports. Raises `CycleError` where there is no such order."""
    modules = {
        ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in folder.rglob("*.py")
    }
    graph = {name: (imported_at_start(path) & set(modules)) - {name, folder.name} for name, path in modules.items()}
    return list(TopologicalSorter(graph).static_order())


def test_no_module_imports_one_that_imports_it():
    assert len(order_of_imports(ROOT / "mmpt")) > 300


def test_a_circle_would_be_found(tmp_path):
    folder = tmp_path / "zoo"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "a.py").write_text("from zoo.b import x\n")
    (folder / "b.py").write_text("import zoo.c\n")
    (folder / "c.py").write_text("def f():\n    from zoo import a\n")
    assert order_of_imports(folder).index("zoo.c") < order_of_imports(folder).index("zoo.a")
    (folder / "c.py").write_text("from zoo import a\n")
    with pytest.raises(CycleError):
        order_of_imports(folder)


def test_an_import_upwards_would_be_found(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("from mmpt.training import fit\nfrom mmpt.errors import DataError\n")
    assert violations(path, "data") == [f"{path}: data must not import training"]


def test_kernels_know_only_libraries_of_kernels():
    for path in (ROOT / "mmpt" / "kernels").glob("*.py"):
        outside = {name.split(".")[0] for name in imported(path)} - set(sys.stdlib_module_names) - {"mmpt"}
        assert outside <= KERNELS_MAY_USE, path


def test_files_stay_small():
    for folder in ("mmpt", "datasets", "tokenizers", "kernels", "recipes", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, f"{path}: split it by what it does"


def test_workbench_folders_are_no_packages():
    for folder in ("datasets", "tokenizers", "kernels", "recipes"):
        assert not list((ROOT / folder).rglob("__init__.py"))


def test_no_pickle_no_eval_no_shell():
    for path in (ROOT / "mmpt").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                qualified = ast.unparse(node.func)
                assert qualified not in ("torch.load", "torch.save", "os.system", "pickle.loads", "pickle.load"), path
                assert not (isinstance(node.func, ast.Name) and name in ("eval", "exec")), path
                assert not any(k.arg == "shell" for k in node.keywords), path
