"""`orcinus show`: records and results as one file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orcinus.cli.main import app
from orcinus.errors import ConfigError

ENGINE = {"kind": "engine", "version": 2, "policy": "orca", "order": "fcfs", "kv": "paged", "num_blocks": 8, "block_size": 16}
LAUNCH = {"kind": "launch", "at": 0.0, "batch": 1, "chunks": [["a", 0, 3, 1]], "waiting": 0, "running": 1, "free_blocks": 7}
RETURN = {"kind": "return", "at": 0.1, "batch": 1, "tokens": [[5]]}


def show(*words: Path | str) -> str:
    done = CliRunner().invoke(app, ["show", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_record_becomes_a_page_that_holds_it(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    record.write_text("\n".join(map(json.dumps, (ENGINE, LAUNCH, RETURN))), encoding="utf-8")
    assert "1 iteration in" in show(record)
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    held = page.split('id="records">')[1].split("</script>")[0]
    assert json.loads(held) == [{"name": "run.jsonl", "text": record.read_text(encoding="utf-8")}]
    show(record, "--out", str(tmp_path / "other.html"))
    assert (tmp_path / "other.html").read_text(encoding="utf-8") == page


def test_records_are_shown_side_by_side_and_one_may_be_cut_off(tmp_path: Path) -> None:
    whole = "\n".join(map(json.dumps, (ENGINE, LAUNCH, RETURN)))
    names = ("one.jsonl", "two.jsonl")
    for name, text in zip(names, (whole, whole + '\n{"kind": "laun'), strict=True):
        (tmp_path / name).write_text(text, encoding="utf-8")
    paths = [tmp_path / name for name in names]
    assert "1 iteration beside 1 iteration" in show(*paths)
    page = (tmp_path / "one.html").read_text(encoding="utf-8")
    held = json.loads(page.split('id="records">')[1].split("</script>")[0])
    assert [one["name"] for one in held] == list(names)
    with pytest.raises(ConfigError, match="at most 4"):
        show(*paths * 3)
    result = tmp_path / "result.json"
    result.write_text(json.dumps({"sides": []}), encoding="utf-8")
    with pytest.raises(ConfigError, match="show it alone"):
        show(paths[0], result)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (json.dumps(ENGINE), "nothing to show"),
        ("hello", "is no JSON"),
        ("5", "no record"),
        ("", "no record"),
        (json.dumps({"sides": []}), "result"),
    ],
)
def test_what_is_neither_a_record_nor_a_result_is_refused(tmp_path: Path, content: str, why: str) -> None:
    record = tmp_path / "run.jsonl"
    record.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=why):
        show(record)
    assert not (tmp_path / "run.html").exists()


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    record = tmp_path / "run.jsonl"
    record.write_text("\n".join(map(json.dumps, (ENGINE, LAUNCH, RETURN))), encoding="utf-8")
    with pytest.raises(ConfigError, match="cannot write the page"):
        show(record, "--out", str(tmp_path / "no" / "run.html"))
