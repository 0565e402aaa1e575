"""A model's folder is the current one: its Python files are imported by no process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orcinus.sim.parallel import in_parallel
from orcinus.text.bounded_process import BoundedProcesses, ProcessLimits
from orcinus.text.patterns import PROCESS, _try
from orcinus.text.template_process import TEXT

SOURCES = Path(__file__).parents[2] / "src" / "orcinus"
SPAWNS = re.compile(r"sys\.executable|ProcessPoolExecutor\(")


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder has modules whose names come before the standard library's and ours; returns what they write."""
    written = tmp_path / "written"
    for name in ("json", "orcinus", "multiprocessing", "struct"):
        (tmp_path / f"{name}.py").write_text(f"open({str(written)!r}, 'w').write(__name__)\nraise ImportError('evil')\n")
    monkeypatch.chdir(tmp_path)
    return written


def test_processes_of_templates_and_grammars_do_not_import_from_the_current_folder(evil: Path) -> None:
    limits = ProcessLimits(seconds=5, memory=2**29, answer=2**20, processes=1)
    processes = BoundedProcesses("orcinus.text.template_process", limits)
    assert processes.ask(b'{"template": "{{ 1 + 1 }}", "variables": {}}') == (TEXT, "2")
    assert not evil.exists()


def test_the_process_that_tries_patterns_does_not(evil: Path) -> None:
    assert _try(["a+"]).split()[-1] == "done", PROCESS
    assert not evil.exists()


def test_processes_of_simulations_do_not(evil: Path) -> None:
    assert list(in_parallel(abs, [-1, 2], workers=2)) == [1, 2]
    assert not evil.exists()


def test_all_other_processes_start_in_the_same_way() -> None:
    """Engines and ranks: `python_module` alone makes their commands."""
    found = {str(file.relative_to(SOURCES)) for file in SOURCES.rglob("*.py") if SPAWNS.search(file.read_text())}
    assert found == {"parent.py", "sim/parallel.py"}
