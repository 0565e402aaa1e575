"""Answers of slow libraries, kept on disk for the next process.

To ask transformers what a model folder says takes two seconds of imports. The answer follows from the folder's files and from
the code that reads them, so it is kept under a hash of both.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from orcinus.cache import cache_folder

MOST_KEPT = 64  # answers of each kind; the ones unused for longest are dropped


class DiskCache:
    """Answers of one kind. `libraries` and `sources`, files of our own code, are what they depend on besides the question."""

    def __init__(self, kind: str, libraries: Iterable[str], sources: Iterable[str | None]) -> None:
        self._kind, self._libraries, self._sources = kind, (*libraries,), (*sources,)

    def find(self, question: bytes) -> bytes | None:
        """The kept answer; None if there is none."""
        if (file := self._file(question)) is None:
            return None
        with suppress(OSError):
            answer = file.read_bytes()
            os.utime(file)
            digest, answer = answer[:32], answer[32:]
            if digest == hashlib.sha256(answer).digest():  # else the machine stopped while it was written
                return answer
        return None

    def keep(self, question: bytes, answer: bytes) -> None:
        """Write an answer. Where nothing can be written, nothing is kept."""
        if (file := self._file(question)) is None:
            return
        with suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=file.parent)
            try:
                with os.fdopen(descriptor, "wb") as new:
                    new.write(hashlib.sha256(answer).digest() + answer)
                os.replace(name, file)
            except OSError:
                os.unlink(name)
                raise
            for old in sorted(file.parent.iterdir(), key=_last_use, reverse=True)[MOST_KEPT:]:
                old.unlink(missing_ok=True)

    def _file(self, question: bytes) -> Path | None:
        folder = cache_folder()
        try:
            code = [Path(source).read_bytes() for source in self._sources if source is not None]
            versions = [f"{name} {_version(name)}".encode() for name in self._libraries]
        except (OSError, metadata.PackageNotFoundError):
            return None
        digests = b"".join(hashlib.sha256(part).digest() for part in (*versions, *code, question))
        return None if folder is None else folder / self._kind / hashlib.sha256(digests).hexdigest()


def _last_use(file: Path) -> float:
    with suppress(OSError):
        return file.stat().st_mtime
    return 0.0


_version = cache(metadata.version)
