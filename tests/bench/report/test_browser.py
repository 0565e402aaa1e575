"""A real browser shows the page: nothing broken, nothing loaded, nothing to complain about, and it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from orcinus.bench.report.page import write_report
from tests.bench import made_up
from tests.bench.report.pages import RESULTS, sweep

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr"),
)
PROBE = """<script>addEventListener("load", () => {
  document.body.style.width = "WIDTHpx"
  const wide = document.body.scrollWidth - WIDTH
  const broken = [...document.images].filter(image => !image.naturalWidth).length
  const hidden = [...document.querySelectorAll("table")].filter(each => !each.closest("details") && !each.offsetHeight).length
  document.title = `wide ${wide} broken ${broken} hidden ${hidden} tables ${document.querySelectorAll("table").length}`
})</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "page.html"
    write_report([("plain", made_up.result()), ("sweep", sweep()), ("hostile", RESULTS["hostile"])], path)
    return path


def chromium(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    profile = page.with_name(f"profile-{os.urandom(4).hex()}")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.parametrize("width", [360, 1200])
def test_nothing_is_broken_and_only_tables_scroll(page: Path, width: int) -> None:
    text = page.read_text(encoding="utf-8")
    probe = PROBE.replace("WIDTH", str(width))
    allowed = re.sub(r"<meta http-equiv[^>]*>", "", text).replace("</body>", f"{probe}</body>")
    probed = page.with_name(f"probed-{width}.html")
    probed.write_text(allowed, encoding="utf-8")
    seen = chromium(probed, "--dump-dom", "--window-size=1200,900").stdout
    assert re.search(r"<title>(.*?)</title>", seen)[1] == f"wide 0 broken 0 hidden 0 tables {text.count('<table')}"  # type: ignore[index]


def test_the_browser_has_nothing_to_complain_about(page: Path, tmp_path: Path) -> None:
    picture = tmp_path / "page.png"
    said = chromium(page, f"--screenshot={picture}", "--window-size=1200,2000").stderr
    assert "CONSOLE" not in said
    assert picture.stat().st_size > 50_000


def test_it_prints_with_all_repeats(page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    chromium(page, f"--print-to-pdf={paper}", "--no-pdf-header-footer")
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", paper, "-"], capture_output=True, text=True, check=True).stdout
        assert "orca: 3 repeats" in text, "what is folded on the screen is open on paper"
