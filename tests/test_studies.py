"""The commands of docs/studies, run as they stand there but for fewer requests or toy models."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.commands import orcinus

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "docs/studies"
PAGES = sorted(page for page in STUDIES.glob("*.md") if page.name != "README.md")
FEWER = {
    "simulate": ("--requests", "20"),
    "sweep": ("--requests", "3", "--workers", "1"),
    "capacity": ("--requests", "6", "--median-delay", "0.01", "--tolerance", "0.5"),  # 6 requests never wait for 2 s
}
RANGE = re.compile(r"^(\w+=[\d.]+),[\d.,]+,([\d.]+)$")  # rate=0.5,1,2


def commands(page: Path) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line]


def params(program: str) -> list[Any]:
    """All commands that begin with this word."""
    found = [(page.stem, number, one) for page in PAGES for number, one in enumerate(commands(page), 1)]
    return [pytest.param(one, id=f"{name}-{number}") for name, number, one in found if one[0] == program]


def shortened(command: list[str], tmp_path: Path) -> list[str]:
    """The command without its name, with fewer requests, the ends of each range, and its picture elsewhere."""
    words = [str(tmp_path / "picture.svg") if word.startswith("docs/pictures/") else word for word in command[1:]]
    return [*(RANGE.sub(r"\1,\2", word) for word in words), *FEWER[command[1]]]


@pytest.mark.parametrize("command", params("orcinus"))
def test_every_command_runs(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orcinus.sim.parallel.cores", lambda: 1)  # starting processes takes longer than the work
    done = orcinus(*shortened(command, tmp_path))
    assert done.returncode == 0, done.stderr
    assert "does not fit" not in done.stdout  # a sweep says so in its table
    assert len(done.stdout.splitlines()) > 3
    assert ("--plot" in command) == (tmp_path / "picture.svg").exists()


@pytest.mark.full
@pytest.mark.parametrize("command", params("python"))
def test_every_benchmark_runs(command: list[str]) -> None:
    toy = [sys.executable, *command[1:], "--quick", "--rounds", "1"]
    done = subprocess.run(toy, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_what_a_study_needs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {command[0] for command in commands(page)} <= {"orcinus", "python"}
    assert commands(page)
    for part in ("?\n", "\n|", "## What follows", "says\n"):
        assert part in text, f"{page.name} lacks {part!r}"
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert (page.parent / link).exists(), f"{page.name} links to {link}"
    assert f"]({page.name})" in (STUDIES / "README.md").read_text(encoding="utf-8")
