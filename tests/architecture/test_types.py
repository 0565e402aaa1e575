"""Types hold. All files take the checker 20 CPU seconds, so `make test` checks those that need no library, in two."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEED_NO_LIBRARY = ("core", "errors", "config", "memory", "observe", "routing")


def mypy(*options: str) -> None:
    done = subprocess.run([sys.executable, "-m", "mypy", *options], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_finds_nothing_in_the_core() -> None:
    packages = [word for name in NEED_NO_LIBRARY for word in ("--package", f"orcinus.{name}")]
    mypy(*packages, "--follow-imports=skip", "--cache-dir=.mypy_cache/core")  # a cache of its own: other options, other entries


@pytest.mark.full
def test_mypy_finds_nothing() -> None:
    """`make check` does the same."""
    mypy()
