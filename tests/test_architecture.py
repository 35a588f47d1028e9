"""The rules of docs/architecture.md, each kept by a test."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("detect", "plan", "pull", "serve", "verify", "route", "record")
SOURCES = sorted([*(ROOT / "flows").rglob("*.py"), *(ROOT / "tasks").rglob("*.py")])
PURE = {
    "__future__",
    "collections",
    "dataclasses",
    "difflib",
    "enum",
    "functools",
    "itertools",
    "math",
    "re",
    "textwrap",
    "typing",
}
LONGEST_MODULE = 300
LONGEST_FUNCTION = 40


def imports(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, wherever it does so."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def relative(path: Path) -> str:
    """Name a file as the tests' output shows it."""
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_prefect_is_a_skin(path: Path) -> None:
    """Prefect is imported only in flows/ and tasks/*/task.py."""
    allowed = path.is_relative_to(ROOT / "flows") or path.name == "task.py"
    uses = any(name.split(".")[0] == "prefect" for name in imports(path))

    assert allowed or not uses


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_environment_is_read_in_one_place(path: Path) -> None:
    """Environment variables are read only in flows/settings.py."""
    reads = [
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr in {"environ", "getenv", "environb"}
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    ]

    assert path == ROOT / "flows/settings.py" or not reads


@pytest.mark.parametrize("stage", STAGES)
def test_stages_never_import_each_other(stage: str) -> None:
    """Stages meet in flows/ alone."""
    others = {f"tasks.{other}" for other in STAGES if other != stage}
    found = {
        f"{relative(path)} imports {name}"
        for path in (ROOT / "tasks" / stage).rglob("*.py")
        for name in imports(path)
        if ".".join(name.split(".")[:2]) in others
    }

    assert set() == found


def test_planning_is_pure() -> None:
    """tasks/plan imports nothing that could read a file, a clock or a network."""
    found = {
        f"{relative(path)} imports {name}"
        for path in (ROOT / "tasks/plan").rglob("*.py")
        for name in imports(path)
        if name.split(".")[0] not in PURE
        and not name.startswith(("tasks.plan", "tasks.contracts", "tasks.errors", "tasks.wording"))
    }

    assert set() == found


def test_flows_shadow_nothing() -> None:
    """No file in flows/ is named like a standard module: Prefect may put flows/ first on the path."""
    names = {path.stem for path in (ROOT / "flows").glob("*.py")} - {"__init__"}

    assert set() == names & set(sys.stdlib_module_names)


def lines_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines without its signature and its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_units_stay_small(path: Path) -> None:
    """A module has at most 300 lines (contracts.py is the one place for all records), a function 40."""
    text = path.read_text()
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]

    assert [] == [function.name for function in functions if lines_of(function) > LONGEST_FUNCTION]
    assert path.name == "contracts.py" or len(text.splitlines()) <= LONGEST_MODULE


def test_documents_keep_to_the_project() -> None:
    """Nothing that is shipped points outside the repository's own folder."""
    outside = "../" + "shared"
    skipped = {".git", ".venv", ".tools", ".cache", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
    found = [
        relative(path)
        for path in ROOT.rglob("*")
        if path.is_file()
        and not skipped & set(path.relative_to(ROOT).parts)
        and path.suffix in {".md", ".py", ".yaml", ".toml", ".sh", ""}
        and outside in path.read_text(errors="ignore")
    ]

    assert [] == found
