"""The page, its pictures and the table for a README, of results that never were."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orcinus.bench.report.page import write_report
from orcinus.bench.report.pictures import Picture
from orcinus.bench.result import Result
from orcinus.errors import ConfigError
from tests.bench import made_up
from tests.bench.report.pages import RESULTS, Page
from tests.product import part
from tests.waiting import within

PICTURES = ["batches.png", "gaps.png", "iterations.png", "latencies.png"]  # of every result that has iterations
RATES = "rates.png"  # of several rates
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Report:
    """What was written about one of the results."""

    result: Result
    html: str
    pictures: dict[str, bytes]
    markdown: str

    @property
    def page(self) -> Page:
        return Page(self.html)


def write(folder: Path, *results: Result, labels: tuple[str, ...] = ("first.json", "second.json")) -> Report:
    told = write_report(list(zip(labels, results, strict=False)), folder / "page.html", folder / "png", folder / "table.md")
    assert sorted(told) == sorted(path for path in folder.rglob("*") if path.is_file())
    pictures = {path.name: path.read_bytes() for path in (folder / "png").iterdir()}
    html, markdown = ((folder / name).read_text(encoding="utf-8") for name in ("page.html", "table.md"))
    return Report(results[0], html, pictures, markdown)


USUAL = ("hostile", "sweep")  # tests below draw them, too; a sweep has all pictures


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Report]:
    """The report about a result of that name, written once for all tests: a picture takes a quarter of a second."""
    return cache(lambda name: write(tmp_path_factory.mktemp("report"), RESULTS[name], labels=("<script>1</script>",)))


@pytest.fixture(scope="module", params=part(*USUAL, full=[name for name in RESULTS if name not in USUAL]))
def report(request: Any, written: Callable[[str], Report]) -> Report:
    return written(request.param)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, for what is told in words alone."""
    monkeypatch.setattr("orcinus.bench.report.page.draw_pictures", lambda *_: [])


def test_every_page_loads_nothing_and_runs_nothing(report: Report) -> None:
    page = report.page
    assert not page.all("script")
    assert not page.all("link")
    assert "url(" not in report.html
    assert "@import" not in report.html
    for tag, attributes in page.tags:
        assert not [key for key in attributes if key.startswith("on")], "no code in attributes"
        assert (attributes.get("src") is None) == (tag != "img")
        assert (attributes.get("src") or "data:image/png;base64,").startswith("data:image/png;base64,")
        assert (attributes.get("href") or "#").startswith("#")
    assert "default-src 'none'" in str(page.all("meta"))


def test_every_picture_is_described(report: Report) -> None:
    assert all(len(picture["alt"] or "") > 20 for picture in report.page.all("img"))


def test_every_cell_has_a_heading(report: Report) -> None:
    page = report.page
    assert len(page.all("caption")) == len(page.tables)
    assert all(heading.get("scope") in ("col", "row") for heading in page.all("th"))
    assert all(len(set(rows)) == 1 for rows in page.tables), "all rows are as wide as the heading"


def test_the_markdown_has_as_many_columns_in_each_row(report: Report) -> None:
    lines = report.markdown.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(report.result.sides)
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {7}
    assert sum("2026-05-04" in line and "A processor" in line and "0123456789ab" in line for line in lines) == 1
    assert all(line.startswith(("|", "2026", "Not to be", "Keep in mind", "Capacity")) for line in lines if line)


def test_pictures_are_pictures(report: Report) -> None:
    assert len(report.pictures) == len(report.page.all("img"))
    for content in report.pictures.values():
        assert content.startswith(PNG)
        assert content.endswith(b"IEND\xaeB`\x82")


@pytest.mark.parametrize(("name", "pictures"), part(("sweep", [*PICTURES, RATES]), full=[("plain", PICTURES)]))
def test_which_pictures_there_are(written: Callable[[str], Report], name: str, pictures: list[str]) -> None:
    assert sorted(written(name).pictures) == [f"script-{picture}" for picture in pictures]


def test_what_came_with_a_result_is_text(written: Callable[[str], Report]) -> None:
    report = written("hostile")
    assert "<script>alert('x')</script> & \"$\\frac{a}$\" | _`x` 日本" in report.page.text
    without_code = re.sub(r"(`+) .*? \1", "", report.markdown)
    assert "script" in without_code
    assert not re.search(r"(?<!\\)<", without_code)


@pytest.mark.usefixtures("undrawn")
def test_the_origin_of_the_numbers_is_told(tmp_path: Path) -> None:
    text = write(tmp_path, RESULTS["plain"]).page.text
    told = ("2026-05-04T10:20:30Z", "A processor, 2 cores, 7.8 GiB", "0123456789ab", "python 3.12.1", "fedcba9876543210")
    for one in (*told, "orcinus bench offline --policies orca,stall-free:token_budget=64", "poisson:rate=8"):
        assert one in text


@pytest.mark.usefixtures("undrawn")
def test_several_files_about_the_same_work_are_compared(tmp_path: Path) -> None:
    page = write(tmp_path, made_up.result(), made_up.result([made_up.side("peer", faster=0.5)], kind="peers")).page
    assert "Side by side" in page.text
    assert "second.json: peer" in page.text
    assert {attributes["href"] for attributes in page.all("a")} == {"#first", "#second"}
    for work, same in (
        ({"seed": 1}, False),
        ({"keep_prompts": True}, False),
        ({"shared_tokens": 0}, True),
    ):  # 0: not counted before
        page = write(tmp_path, made_up.result(), made_up.result(work=made_up.work(**work))).page
        assert ("Side by side" in page.text) is same


def test_tables_of_several_files_have_their_names(tmp_path: Path) -> None:
    report = write(tmp_path, made_up.result([]), made_up.result([]), labels=("a_1.json", "b.json"))
    assert [line for line in report.markdown.splitlines() if line.startswith("**")] == ["**a\\_1.json**", "**b.json**"]


def test_files_of_the_same_name_keep_their_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draw(result: Result, sides: object, stem: Path) -> list[Picture]:
        path = stem.with_name(f"{stem.name}-gaps.png")
        path.write_bytes(PNG)
        return [Picture(path, "Gaps", "A dot for each gap between two tokens", "Each dot is a gap.")]

    monkeypatch.setattr("orcinus.bench.report.page.draw_pictures", draw)
    report = write(tmp_path, RESULTS["one repeat"], RESULTS["one repeat"], labels=("a/run.json", "b/run.json"))
    assert {attributes["id"] for attributes in report.page.all("section") if "id" in attributes} == {"run", "run-2"}
    assert set(report.pictures) == {"run-gaps.png", "run-2-gaps.png"}


@pytest.mark.usefixtures("undrawn")
def test_a_page_alone_is_all_that_is_written(tmp_path: Path) -> None:
    assert write_report([("run", RESULTS["one repeat"])], tmp_path / "page.html") == [tmp_path / "page.html"]
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_what_cannot_be_written_is_an_error_of_one_line(tmp_path: Path) -> None:
    empty = made_up.result([])
    with pytest.raises(ConfigError, match="nothing to report"):
        write_report([], tmp_path / "page.html")
    with pytest.raises(ConfigError, match=r"cannot write .*page.html: No such file"):
        write_report([("run", empty)], tmp_path / "none" / "page.html")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot make the folder"):
        write_report([("run", empty)], tmp_path / "page.html", tmp_path / "file")


@pytest.mark.full
def test_a_hundred_thousand_gaps_are_a_small_page_soon(tmp_path: Path) -> None:
    side = made_up.side("orca", repeats=1, requests=500, tokens=201)
    assert sum(len(each.times) - 1 for each in side.repeats[0].requests) == 100_000
    with within(60):
        write_report([("run", made_up.result([side, replace(side, name="again")]))], tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size < 5_000_000
