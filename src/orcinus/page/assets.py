"""The page's files: served one by one, or put together into one file that needs no server.

Modules import each other by bare names, which an import map in the document resolves: to addresses of this server, or to the
modules themselves. So there is no build step, and both pages run the same code.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import NamedTuple

FOLDERS = ("static", "vendor")
MODULES = {  # names in `import` statements, of other projects' modules; our own are called orcinus/FILE
    "preact": "preact.js",
    "preact/hooks": "preact-hooks.js",
    "htm": "htm.js",
    "uplot": "uplot.js",
    "marked": "marked.js",
    "dompurify": "dompurify.js",
}
STYLES = ("uplot.css", "style.css")
KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
ROOT = "/page/"  # where the server offers the files


class Asset(NamedTuple):
    """A file of the page."""

    content: bytes
    kind: str  # its media type
    tag: str  # changes with the content


@cache
def find(name: str) -> Asset | None:
    """The file of this name, or None."""
    kind = KINDS.get(PurePosixPath(name).suffix)
    if kind is None or "/" in name or "\\" in name:
        return None
    for folder in FOLDERS:
        file = files(__package__) / folder / name
        if file.is_file():
            content = file.read_bytes()
            return Asset(content, f"{kind}; charset=utf-8", hashlib.sha256(content).hexdigest()[:16])
    return None


@cache
def index() -> tuple[bytes, str]:
    """The served document, and the Content-Security-Policy that it needs.

    Scripts come from this server alone; the only inline one is the import map, which the policy names by its hash.
    """
    mapped = _import_map(lambda file: ROOT + file)
    styles = "".join(f'<link rel="stylesheet" href="{ROOT}{file}">' for file in STYLES)
    digest = base64.b64encode(hashlib.sha256(mapped.encode()).digest()).decode()
    policy = POLICY.format(scripts=f"'self' 'sha256-{digest}'", connect="'self'")
    head = f'{styles}<link rel="icon" href="{ROOT}icon.svg">'
    return _document(head, mapped, f'<script type="module" src="{ROOT}main.js"></script>').encode(), policy


def standalone(records: Sequence[tuple[str, str]] = ()) -> str:
    """The page as one file that shows records, without a server.

    `records` are names and texts of recorded runs (JSON lines), shown side by side; without any the page asks for a file.
    """
    mapped = _import_map(lambda file: _data_url(_content(file), KINDS[PurePosixPath(file).suffix]))
    styles = "".join(f"<style>{_content(file).decode()}</style>" for file in STYLES)
    # a JSON string may hold </script>, and < can be written otherwise in one
    shown = json.dumps([{"name": name, "text": text} for name, text in records], ensure_ascii=True).replace("<", "\\u003c")
    data = f'<script type="application/json" id="records">{shown}</script>'
    return _document(styles, mapped, f'{data}<script type="module">import "orcinus/main.js";</script>')


POLICY = (
    "default-src 'none'; script-src {scripts}; style-src 'self'; img-src 'self' data: blob:; connect-src {connect}; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Orcinus</title>
<script type="importmap">{imports}</script>
{head}
</head>
<body>
<div id="page"><noscript>This page needs JavaScript. The API at /v1 does not.</noscript></div>
{scripts}
</body>
</html>
"""


def _document(head: str, imports: str, scripts: str) -> str:
    return DOCUMENT.format(head=head, imports=imports, scripts=scripts)


def _import_map(address: Callable[[str], str]) -> str:
    own = sorted(file.name for file in (files(__package__) / "static").iterdir() if file.name.endswith(".js"))
    names = MODULES | {f"orcinus/{name}": name for name in own}
    return json.dumps({"imports": {name: address(file) for name, file in names.items()}})


def _content(name: str) -> bytes:
    asset = find(name)
    assert asset is not None, f"{name} is a file of this package"
    return asset.content


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
