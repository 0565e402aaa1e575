"""The commands of docs/simulator.md, with fewer requests; calibrating and reproducing have tests of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import orcinus
from tests.test_studies import FEWER, commands

PAGE = Path(__file__).parents[1] / "docs/simulator.md"
COMMANDS = commands(PAGE)
RUN = [words for words in COMMANDS if words[1] in FEWER and "here.json" not in words]


@pytest.mark.parametrize("command", RUN, ids=lambda words: words[1])
def test_every_command_runs(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("orcinus.sim.parallel.cores", lambda: 1)
    done = orcinus(*command[1:], *FEWER[command[1]])
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3


def test_the_page_shows_all_commands_of_the_simulator() -> None:
    assert {words[1] for words in COMMANDS} == {"simulate", "capacity", "sweep", "reproduce", "calibrate"}
