"""Kernels that Numba compiled, kept on disk for later processes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache

from orcinus.cache import cache_folder
from orcinus.errors import one_line

log = logging.getLogger(__name__)


class _Forgiving(FunctionCache):  # type: ignore[misc]
    """A cache that ignores disk errors: the kernel is compiled again.

    It is fresh as long as no file beside the kernel's own has changed: kernels are made of functions of several files.
    """

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        files = sorted(Path(py_func.__code__.co_filename).parent.glob("*.py"))
        self._cache_file._source_stamp = [(file.name, file.stat().st_mtime, file.stat().st_size) for file in files]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # a damaged pickle raises anything
            self._give_up("loaded", error)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._give_up("kept", error)

    def _give_up(self, what: str, error: Exception) -> None:
        log.info("a compiled kernel cannot be %s in %s: %s", what, self.cache_path, one_line(error))
        try:
            self.flush()  # a damaged index would stay damaged
        except OSError:
            self.disable()


def keep_compiled(kernel: Any) -> Any:
    """The kernel, with its compiled code cached in `cache_folder` if possible."""
    folder = cache_folder("NUMBA_CACHE_DIR")
    if folder is None:
        return kernel
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(folder)
    try:
        found = _Forgiving(kernel.py_func)
    except (OSError, RuntimeError) as error:  # gone meanwhile
        log.info("compiled kernels are not kept: %s", error)
        return kernel
    finally:
        numba.config.CACHE_DIR = before
    if Path(found.cache_path).is_relative_to(folder):  # otherwise Numba tries folders of its own choice
        kernel._cache = found
    return kernel
