"""docs/architecture.md draws the tree as it is, and a class name stands in one module."""

from __future__ import annotations

import ast
import re
from collections import defaultdict

from tests.architecture.source import PACKAGE, ROOT, TREES

NAME = re.compile(r"(\w+\.py|\w+/|…)(?=\s|$)")
TWICE: dict[str, str] = {}  # class names in more than one module, and why; at most five


def drawn() -> tuple[dict[str, set[str]], set[str]]:
    """What the page names in each folder ("" is the package), and the folders of which it says that there is more."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"```text\nsrc/orcinus/\n(.*?)```", page, re.DOTALL)
    assert block is not None
    named, more, folder = defaultdict[str, set[str]](set), set[str](), ""
    for line in block[1].splitlines():
        at_top = line.startswith(("├── ", "└── "))
        if not at_top and not re.match(r"[│ ]\s+[├└]── ", line):
            continue  # the rest of a description
        folder, words = "" if at_top else folder, line.lstrip("│├└─ ")
        while found := NAME.match(words):
            words = words[found.end() :].lstrip()
            if found[1] == "…":
                more.add(folder)
            else:
                named[folder].add(found[1].rstrip("/"))
                folder = found[1].rstrip("/") if at_top and found[1].endswith("/") else folder
    return named, more


def real(folder: str) -> set[str]:
    """Modules and folders of a folder."""
    inside = [path for path in (PACKAGE / folder).iterdir() if path.is_dir() or path.suffix == ".py"]
    cached = {path.name for path in inside if path.is_dir() and {each.name for each in path.iterdir()} <= {"__pycache__"}}
    return {path.name for path in inside} - cached - {"__init__.py", "__pycache__"}


def test_the_tree_is_drawn_as_it_is() -> None:
    """A folder is drawn in one line, or with all its files, or with some and `…`."""
    named, more = drawn()
    assert len(named) > 5
    for folder, names in named.items():
        assert names - real(folder) == set(), f"gone from {folder or 'orcinus'}/"
        assert folder in more or real(folder) - names == set(), f"not drawn in {folder or 'orcinus'}/"


def test_a_class_name_stands_in_one_module() -> None:
    homes = defaultdict[str, list[str]](list)
    for name, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(name)
    assert {name: modules for name, modules in homes.items() if len(modules) > 1 and name not in TWICE} == {}
    assert len(TWICE) <= 5
    assert all(len(homes[name]) > 1 for name in TWICE), "an exception that is none any more"
