"""The package's source as syntax trees, read once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "orcinus"
Function = ast.FunctionDef | ast.AsyncFunctionDef


def module(file: Path) -> str:
    """`src/orcinus/core/kv/__init__.py` -> `orcinus.core.kv`."""
    return ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {module(file): ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def under(*packages: str) -> dict[str, ast.Module]:
    """The trees of these packages of ours: `core` has `orcinus.core` and all in it."""
    return {name: tree for name, tree in TREES.items() if part(name) in packages}


def part(name: str) -> str | None:
    """`orcinus.core.engine` -> `core`."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "orcinus" and len(pieces) > 1 else None


def imports(tree: ast.AST, *, types: bool = True) -> set[str]:
    """Full names of what a tree imports, in its functions too; without `types`, not what is for type checkers alone."""
    names = set()
    for node in ast.walk(tree) if types else _at_run_time(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    yield tree
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")):
            yield from _at_run_time(node)


def length(node: Function | ast.ClassDef) -> int:
    """Lines of a definition, its decorators left out."""
    return (node.end_lineno or 0) - node.lineno + 1
