"""Answers kept on disk: found again, dropped when what they depend on changes, and never in the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from orcinus import disk_cache
from orcinus.disk_cache import DiskCache


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("CACHE_DIRECTORY", str(folder))
    return folder


def test_an_answer_is_found_by_its_question_until_the_code_or_a_library_changes(private: Path, tmp_path: Path) -> None:
    source = tmp_path / "code.py"
    source.write_text("1")
    cache = DiskCache("kind", ["msgspec"], [str(source)])
    assert cache.find(b"question") is None
    cache.keep(b"question", b"answer")
    assert cache.find(b"question") == DiskCache("kind", ["msgspec"], [str(source)]).find(b"question") == b"answer"
    assert cache.find(b"another") is None
    assert DiskCache("other", ["msgspec"], [str(source)]).find(b"question") is None
    assert DiskCache("kind", ["pytest"], [str(source)]).find(b"question") is None
    source.write_text("2")
    assert cache.find(b"question") is None


def test_half_an_answer_is_none(private: Path) -> None:
    cache = DiskCache("kind", [], [])
    cache.keep(b"question", b"answer" * 100)
    (file,) = (private / "kind").iterdir()
    for size in (0, 20, 40, 631):
        file.write_bytes(file.read_bytes()[:size])
        assert cache.find(b"question") is None
    cache.keep(b"question", b"whole")
    assert cache.find(b"question") == b"whole"


def test_the_answers_used_last_are_kept(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "MOST_KEPT", 2)
    cache = DiskCache("kind", [], [])
    for turn, question in enumerate((b"a", b"b", b"c")):
        cache.keep(question, question)
        monkeypatch.setattr(disk_cache, "_last_use", lambda file, turn=turn: 0.0 if file.read_bytes().endswith(b"b") else 1.0)
    assert [cache.find(question) for question in (b"a", b"b", b"c")] == [b"a", None, b"c"]


@pytest.mark.parametrize("cache", [DiskCache("kind", ["no-such-library"], []), DiskCache("kind", [], ["/no/such/file.py"])])
def test_what_it_depends_on_is_unknown(private: Path, cache: DiskCache) -> None:
    cache.keep(b"question", b"answer")
    assert cache.find(b"question") is None


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "cache_folder", lambda: None)
    cache = DiskCache("kind", [], [])
    cache.keep(b"question", b"answer")
    assert cache.find(b"question") is None


def test_a_disk_that_takes_nothing_is_no_error(private: Path) -> None:
    (private / "kind").write_text("a file where a folder should be")
    cache = DiskCache("kind", [], [])
    cache.keep(b"question", b"answer")
    assert cache.find(b"question") is None
