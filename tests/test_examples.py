"""The scripts of `examples/` run, and say what they promise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import ENVIRONMENT

EXAMPLES = Path(__file__).parents[1] / "examples"
PROMISED = {"ranks.py": "The same as on one device."}


def test_every_example_has_a_promise() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == PROMISED.keys()


@pytest.mark.full
@pytest.mark.parametrize("name", PROMISED)
def test_an_example_keeps_its_promise(name: str) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == PROMISED[name]
