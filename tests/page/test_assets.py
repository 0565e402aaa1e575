"""The page's files: whole, pinned, and safe to serve."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orcinus import page
from orcinus.page.assets import FOLDERS, MODULES

ROOT = Path(page.__file__).parent
OWN = sorted((ROOT / "static").glob("*.js"))
IMPORT = re.compile(r'from\s*"([^"]+)"|^import\s*"([^"]+)"', re.MULTILINE)
ELSEWHERE = re.compile(r"https?://|//[a-z]+\.[a-z]+/", re.IGNORECASE)


class Elements(HTMLParser):
    """The elements of a document: names with attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data


def test_every_module_that_is_imported_is_there() -> None:
    names = {*MODULES, *(f"orcinus/{file.name}" for file in OWN)}
    for file in OWN:
        imported = {one or other for one, other in IMPORT.findall(file.read_text(encoding="utf-8"))}
        assert imported <= names, file.name
    for module in MODULES.values():
        assert page.find(module) is not None


def test_our_own_files_ask_nothing_of_other_hosts() -> None:
    for file in (ROOT / "static").iterdir():
        found = ELSEWHERE.findall(file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", ""))
        assert not found, file.name


def test_the_policy_names_the_only_inline_script_by_its_hash() -> None:
    content, policy = page.index()
    document = Elements(content.decode())
    inline = [script for script in document.scripts if script]
    (imports,) = inline
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    assert f"script-src 'self' 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    assert not [name for tag, attributes in document.found for name in attributes if name.startswith("on") or name == "style"]


def test_every_address_of_the_document_is_a_file_of_the_page() -> None:
    content, _ = page.index()
    document = Elements(content.decode())
    addresses = [attributes.get("href") or attributes.get("src") for _, attributes in document.found]
    addresses += json.loads(next(filter(None, document.scripts)))["imports"].values()
    for address in filter(None, addresses):
        assert address.startswith("/page/")
        assert page.find(address.removeprefix("/page/")) is not None, address


@pytest.mark.parametrize(
    "name", ["", "..", "main.js/..", "../assets.py", "assets.py", "LICENSE.preact", "nothing.js", "..\\assets.py", "main.js\0"]
)
def test_only_files_of_the_page_are_found(name: str) -> None:
    assert page.find(name) is None


def test_one_file_holds_the_page_and_a_record() -> None:
    record = '{"kind":"engine"}\n{"text":"</script><script>alert(1)</script> <!-- \u2028"}\n'
    document = Elements(page.standalone([("run.jsonl", record)]))
    assert not [attributes for tag, attributes in document.found if "src" in attributes or "href" in attributes]
    (held,) = [text for text, (_, attributes) in zip(document.scripts, scripts(document), strict=True) if "id" in attributes]
    assert json.loads(held) == [{"name": "run.jsonl", "text": record}]
    imports = json.loads(document.scripts[0])["imports"]
    for name, address in imports.items():
        kind, content = address.split(",", 1)
        assert kind == "data:text/javascript;base64"
        file = MODULES.get(name) or name.removeprefix("orcinus/")
        assert any((ROOT / folder / file).exists() for folder in FOLDERS)
        assert base64.b64decode(content)


def scripts(document: Elements) -> list[tuple[str, dict[str, str | None]]]:
    return [one for one in document.found if one[0] == "script"]


def test_every_library_comes_with_its_licence() -> None:
    for module in ("preact", "htm", "uplot", "marked", "dompurify"):
        text = (ROOT / "vendor" / f"LICENSE.{module}").read_text(encoding="utf-8")
        assert "MIT" in text or "Apache License" in text or "Permission is hereby granted" in text
