"""`orcinus bench papers`, with a toy study in place of the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from orcinus.bench.result import read_result
from orcinus.papers.measured.stalls import Stalls
from tests.commands import orcinus

TOY = Stalls(places=2, short=4, answer=8, long=64, last=2, budget=8, requests=8)


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orcinus.papers.measured.STUDIES", (TOY,))


def test_it_writes_and_draws_what_it_measured_and_its_status_is_the_verdict(tmp_path: Path) -> None:
    done = orcinus("bench", "papers", "--repeats", "1", "--out", str(tmp_path / "out"), "--plot", str(tmp_path / "pictures"))
    result = read_result(tmp_path / "out/stalls.json")
    assert result.kind == "papers"
    assert len(result.sides) == 4
    assert "<svg" in (tmp_path / "pictures/stalls.svg").read_text(encoding="utf-8")
    for part in ("Published:", "Here:", "published", "measured", "One repeat does not say"):
        assert part in done.stdout
    assert done.returncode == (0 if "stalls: shape found" in done.stdout else 1)
    assert ("stalls: shape not found" in done.stdout) == bool(done.returncode)


def test_a_study_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    done = orcinus("bench", "papers", "--only", "figure-7")
    assert done.returncode == 1
    assert "choose among stalls" in done.stderr


def test_a_folder_that_cannot_be_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = orcinus("bench", "papers", "--out", str(tmp_path / "file"))
    assert done.returncode == 1
    assert "give a folder" in done.stderr


def test_repeats_are_at_least_one() -> None:
    assert orcinus("bench", "papers", "--repeats", "0").returncode == 2


def test_a_policy_that_cannot_serve_the_model_is_an_error_of_one_line(tmp_path: Path) -> None:
    done = orcinus("bench", "papers", "--model", str(tmp_path))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
