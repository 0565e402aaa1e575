"""Fetches the page's libraries in their pinned versions, as `npm pack` gives them.

`python -m tools.vendor_page` rewrites `src/orcinus/page/vendor`; `--check` only compares. It needs npm. The files are used as
they come, but for the last line that names a source map.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

VENDOR = Path(__file__).parents[1] / "src" / "orcinus" / "page" / "vendor"
SOURCE_MAP = re.compile(rb"\n//# sourceMappingURL=\S+\s*$")


class Library(NamedTuple):
    """A package, its licence, and what of it is used: its files, and our names of them."""

    package: str
    version: str
    integrity: str  # of the archive, as npm's lock files have it
    licence: str
    files: dict[str, str]


LIBRARIES = (
    Library(
        "preact",
        "11.2.0",
        "sha512-/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==",
        "MIT",
        {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "preact-hooks.js", "LICENSE": "LICENSE.preact"},
    ),
    Library(
        "htm",
        "3.1.1",
        "sha512-983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==",
        "Apache-2.0",
        {"dist/htm.mjs": "htm.js", "LICENSE": "LICENSE.htm"},
    ),
    Library(
        "uplot",
        "1.6.32",
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        "MIT",
        {"dist/uPlot.esm.js": "uplot.js", "dist/uPlot.min.css": "uplot.css", "LICENSE": "LICENSE.uplot"},
    ),
    Library(
        "marked",
        "18.2.1",
        "sha512-ii4bxCTCqqwpT86XZWgJNs+ZnAIZksmLGYMViWA7PDIXYIeNo1x6cDdX3JOip9NM/cI6p8z57FxliACboTruMA==",
        "MIT",
        {"lib/marked.esm.js": "marked.js", "LICENSE": "LICENSE.marked"},
    ),
    Library(
        "dompurify",
        "3.5.0",
        "sha512-LYC0ZkE8P1V42JsRYTwMdme/2ET8SpOc5AA2eOFjP/IadvRd2fwiT4TVz5vkfy0XUx12aS2UaRkTnfVPNOv9vw==",
        "Apache-2.0",
        {"dist/purify.es.mjs": "dompurify.js", "LICENSE": "LICENSE.dompurify"},
    ),
)


def fetch(library: Library, folder: Path) -> dict[str, bytes]:
    """The files of a library by our names. Raises `ValueError` if the archive is another one than ours was."""
    asked = ["npm", "pack", f"{library.package}@{library.version}", "--json", "--pack-destination", str(folder)]
    told = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)[0]
    if told["integrity"] != library.integrity:
        raise ValueError(f"{library.package} {library.version} is {told['integrity']}, not {library.integrity}")
    found = {}
    with tarfile.open(folder / told["filename"]) as archive:
        for path, name in library.files.items():
            file = archive.extractfile(f"package/{path}")
            assert file is not None, path
            found[name] = SOURCE_MAP.sub(b"\n", file.read())
    return found


def main() -> int:
    """Write or check the files; the exit status says whether they are as they should be."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--check", action="store_true", help="compare, and write nothing")
    check = options.parse_args().check
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for library in LIBRARIES:
            for name, content in fetch(library, Path(folder)).items():
                target = VENDOR / name
                if not check:
                    target.write_bytes(content)
                elif not target.exists() or target.read_bytes() != content:
                    wrong.append(name)
    print("\n".join(f"{name} differs" for name in wrong) or f"{len(LIBRARIES)} libraries are as pinned")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
