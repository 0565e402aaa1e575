"""Python's search for garbage in Orcinus's own processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

CYCLE = """
from orcinus.garbage import collect_rarely
class Cycle:
    def __del__(self): print("found", flush=True)
{call}
cycle = Cycle()
cycle.itself = cycle
del cycle
"""


@pytest.mark.parametrize(("call", "output"), [("", "found\n"), ("collect_rarely()", "")], ids=["by default", "ours"])
def test_a_process_ends_without_a_search(call: str, output: str) -> None:
    run = subprocess.run([sys.executable, "-c", CYCLE.format(call=call)], capture_output=True, text=True, check=True)
    assert run.stdout == output
    assert run.stderr == ""
