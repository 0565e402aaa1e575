"""Downloads that a process did not end, which the next one goes on with.

`huggingface_hub` 1.x goes on itself. From 2.0 on each process writes a file of its own, `<etag>.<8 digits>.incomplete`, and
removes it if it fails; one that is killed, or ends by Ctrl-C, leaves it. Large files have their SHA-256 as entity tag, so
whatever was left is checked as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from hashlib import file_digest
from pathlib import Path
from typing import Any

LEFT = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{8}\.incomplete")  # the entity tag
LOCK_S = 0.5  # a download that goes on elsewhere holds a lock


def complete_left_files(name: str, revision: str | None, files: Sequence[str], cache: Path, bars: type[Any] | None) -> None:
    """Complete what earlier processes left of some files of a repository.

    `bars` is a class of progress bars. Errors of the connection are raised, and what has come so far stays.
    """
    folder = f"models--{name.replace('/', '--')}"
    left = {match[1]: path for path in (cache / folder / "blobs").glob("*.incomplete") if (match := LEFT.fullmatch(path.name))}
    if not left:
        return
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]

    for file in files:
        url = hf_hub_url(name, file, revision=revision)
        about = get_hf_file_metadata(url)
        part = left.get(about.etag or "")
        if part is None or about.size is None:
            continue
        lock = cache / ".locks" / folder / f"{about.etag}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with suppress(TimeoutError), WeakFileLock(lock, timeout=LOCK_S):
            _complete(part, part.with_name(str(about.etag)), url, about.size, bars)


def _complete(part: Path, whole: Path, url: str, size: int, bars: type[Any] | None) -> None:
    """Get the rest of a file, and give it its name if it is what its entity tag says; else remove it."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    if whole.exists():
        return
    with part.open("r+b") as stream:
        at = stream.seek(0, 2)
        if at < size:
            http_get(url, stream, resume_size=at, headers=build_hf_headers(), expected_size=size, tqdm_class=bars)
        stream.seek(0)
        right = file_digest(stream, "sha256").hexdigest() == whole.name
    if right:
        part.replace(whole)
    else:
        part.unlink()
