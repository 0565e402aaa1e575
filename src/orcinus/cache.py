"""A folder for compiled kernels that is private to this user."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

NAME = "orcinus"
OTHERS = stat.S_IWGRP | stat.S_IWOTH
log = logging.getLogger(__name__)


def cache_folder(own_variable: str | None = None) -> Path | None:
    """A private writable folder, created if needed; None if there is none.

    `own_variable` names the environment variable with which a library lets users choose its folder. A cache's contents are
    executed, so a folder that another user could have written to is skipped, even if the user chose it.
    """
    for folder in _candidates(own_variable):
        problem = _problem(folder)
        if problem is None:
            return folder
        log.info("nothing is cached in %s: %s", folder, problem)
        if own_variable is not None and os.environ.get(own_variable) == str(folder):
            _warn(f"{own_variable}={folder} is not used: {problem}")
    return None


def _candidates(own_variable: str | None) -> Iterator[Path]:
    """Folders to try: chosen by the user, systemd's, the user's cache, temporary."""
    if own_variable is not None and (own := os.environ.get(own_variable)):
        yield Path(own)
    if given := os.environ.get("CACHE_DIRECTORY"):  # CacheDirectory= of systemd; several with colons between
        yield Path(given.split(":")[0])
    if caches := os.environ.get("XDG_CACHE_HOME"):
        yield Path(caches) / NAME
    with suppress(RuntimeError):  # a user without a home
        yield Path.home() / ".cache" / NAME
    with suppress(OSError):  # no temporary folder either
        yield Path(tempfile.gettempdir()) / f"{NAME}-cache-{os.geteuid()}"


def _problem(folder: Path) -> str | None:
    """Why a folder cannot be a private cache; None if it can."""
    try:
        if not folder.is_absolute():
            return "it is not an absolute path"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.resolve(strict=True)
        status = found.stat()
        if status.st_uid != os.geteuid() or status.st_mode & OTHERS:
            return "other users may write to it"
        for parent in found.parents:
            above = parent.stat()
            if above.st_uid not in (0, os.geteuid()) or (above.st_mode & OTHERS and not above.st_mode & stat.S_ISVTX):
                return f"other users may write to {parent}"
        return None if os.access(found, os.W_OK | os.X_OK) else "it cannot be written"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


@cache
def _warn(message: str) -> None:
    """Log a warning once per process."""
    log.warning("%s", message)


def lend(variable: str) -> None:
    """Set a library's cache variable to our folder, unless it is set."""
    if variable in os.environ or os.access(os.path.expanduser("~"), os.W_OK | os.X_OK):
        return
    if (folder := cache_folder()) is not None:
        os.environ[variable] = str(folder / variable.lower())
