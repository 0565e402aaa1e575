"""The script that writes the figures of docs/performance.md, with a toy model."""

from __future__ import annotations

from pathlib import Path

import performance
import pytest

from orcinus.runtime import device_memory

ROOT = Path(__file__).parents[2]


def test_the_page_has_the_marks_of_every_part(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"), encoding="utf-8")
    for name in performance.PARTS:
        performance.put(page, name, f"figures of {name}\n")
        performance.put(page, name, f"newer figures of {name}\n")  # which replaces the first
    said = page.read_text(encoding="utf-8")
    assert all(said.count(f"figures of {name}\n") == 1 for name in performance.PARTS)
    with pytest.raises(SystemExit, match="has no marks of the part other"):
        performance.put(page, "other", "")


@pytest.mark.full
def test_curves_of_a_toy_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(device_memory, "SECONDS", 0.001)
    (tmp_path / "pictures").mkdir()
    said = performance.curves(performance.QUICK, 6, tmp_path / "page.md")
    assert said.startswith("toy-qwen (made-up weights) in ")
    assert said.count("| decode of ") == 4
    assert said.count("| prefill of ") == 2
    picture = (tmp_path / "pictures" / "performance.svg").read_text(encoding="utf-8")
    for words in ("decodes, each at 24 tokens", "context of one decode, tokens", "prompt, tokens"):
        assert f"<!-- {words} -->" in picture
    assert "6 of 6" in capsys.readouterr().err
