"""The published measurements, if they are on this machine, and the scripts that fit the cost model to them."""

from __future__ import annotations

import functools
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orcinus.cost.constants import read

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@functools.cache
def script(name: str = "fit_costs") -> ModuleType:
    """A script of benchmarks/ as a module; it may import the others."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(SCRIPTS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPTS))
    return module


needs_data = pytest.mark.skipif(
    not (script().data_folder() / "a100").is_dir(), reason="the published measurements are not here (see ORCINUS_DATA)"
)


def assert_file_agrees_with_itself(name: str) -> None:
    """The script would write this file for the constants in it. (Percentiles may differ in the last digit between machines.)"""
    written = flat(script().contents(name, script().data_folder(), check=True))
    assert written == {key: pytest.approx(value, abs=2e-4) for key, value in flat(read(name)).items()}


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """The leaves of nested lists and mappings, by the path to them."""
    if not isinstance(tree, dict | list):
        return {path: tree}
    branches = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return {key: leaf for name, branch in branches for key, leaf in flat(branch, f"{path}/{name}").items()}
