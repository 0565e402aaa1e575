"""Compiled kernels on disk: kept and found again, and no harm where they cannot be."""

from __future__ import annotations

import errno
import fcntl
import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numba
import numpy as np
import pytest
from numba.core.caching import IndexDataCacheFile

from orcinus.runtime import compiled
from orcinus.runtime.compiled import exact, external, keep_compiled


def double() -> Any:
    """A kernel that no process has compiled yet."""

    @numba.njit
    def kernel(x):  # type: ignore[no-untyped-def]
        return 2 * x

    return keep_compiled(kernel)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("NUMBA_CACHE_DIR", "CACHE_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "orcinus"


def hits(kernel: Any) -> int:
    return sum(kernel.stats.cache_hits.values())


def test_what_was_compiled_is_found_again(folder: Path) -> None:
    before = numba.config.CACHE_DIR
    first, second = double(), double()
    assert (first(3), second(3)) == (6, 6)
    assert (hits(first), hits(second)) == (0, 1)
    assert list(folder.rglob("*.nbc"))
    assert before == numba.config.CACHE_DIR, "functions of others keep their own folder"


@pytest.mark.parametrize("ending", ["nbi", "nbc"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x80\x05."])
def test_a_damaged_file_is_compiled_anew_and_mended(folder: Path, ending: str, content: bytes) -> None:
    assert double()(3) == 6
    for file in folder.rglob(f"*.{ending}"):
        file.write_bytes(content)
    assert double()(3) == 6
    assert double()(3) == 6
    last = double()
    assert last(3) == 6
    assert hits(last) == 1


def test_a_full_disk_is_no_error(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    with caplog.at_level(logging.INFO), patch.object(IndexDataCacheFile, "_open_for_write", side_effect=full):
        kernel = double()
        assert (kernel(3), kernel(1.5)) == (6, 3.0)
    assert "cannot be kept" in caplog.text
    assert not list(folder.rglob("*.nb?"))


def test_without_a_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "cache_folder", lambda variable: None)
    kernel = double()
    assert kernel(3) == 6
    assert kernel._cache.cache_path is None


def test_numba_is_not_followed_to_folders_of_its_own_choice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If ours vanishes at the last moment it would keep kernels beside the source."""
    monkeypatch.setattr(compiled, "cache_folder", lambda variable: Path("/proc/nothing"))
    kernel = double()
    assert kernel(3) == 6
    assert kernel._cache.cache_path is None


@contextmanager
def compiling_elsewhere(folder: Path) -> Iterator[None]:
    """Another process has begun to compile the kernel; when it is done the kernel is on disk."""
    assert double()(3) == 6
    (index,) = folder.rglob("*.nbi")
    (lock,) = folder.rglob("*.lock")
    with lock.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        index.rename(index.with_suffix(".later"))
        yield
        index.with_suffix(".later").rename(index)


def test_processes_that_need_a_kernel_at_once_compile_it_once(folder: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        second = double()
        with compiling_elsewhere(folder):
            answer = pool.submit(second, 3)
            with pytest.raises(TimeoutError):
                answer.result(timeout=0.2)
        assert answer.result(timeout=60) == 6
    assert hits(second) == 1


def test_a_process_that_does_not_finish_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "LONGEST_WAIT_S", 0.1)
    second = double()
    with compiling_elsewhere(folder):
        assert second(3) == 6
        assert hits(second) == 0


def test_where_files_cannot_be_locked_each_process_compiles(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks available")))
    first, second = double(), double()
    assert (first(3), second(3)) == (6, 6)
    assert (hits(first), hits(second)) == (0, 1)


CALLER = """
from orcinus.runtime.compiled import exact, external, keep_compiled

@exact
def _square(x):
    return x * x

square = external(_square)

@exact
def area(x):
    return square(x) + square(2)

area = keep_compiled(area)
print(area(3.0), sum(area.stats.cache_hits.values()))
"""


def test_an_external_kernel_is_loaded_before_its_caller(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "area.py"
    script.write_text(CALLER)

    def run() -> str:
        return subprocess.run([sys.executable, script], check=True, capture_output=True, text=True).stdout.strip()

    assert run() == "13.0 0"
    assert run() == "13.0 1"
    for file in folder.rglob("area._square*"):
        file.unlink()
    assert run() == "13.0 0", "it was made for another external kernel"
    assert run() == "13.0 1"


def test_an_external_kernel_is_compiled_once() -> None:
    @exact
    def largest(x: Any) -> Any:
        return x.max()

    call = external(largest)

    @exact(parallel=True)  # type: ignore[untyped-decorator]
    def outer(x: Any, out: Any) -> None:
        for row in numba.prange(len(x)):
            out[row] = call(x[row])

    out = np.empty(2)
    outer(np.array([[1.0, 3.0], [2.0, 0.0]]), out)
    assert list(out) == [3, 2]
    (compiled,) = outer.overloads.values()
    assert "reduce" not in compiled.library.get_llvm_str()
    (symbol,) = (made.fndesc.llvm_func_name for made in largest.overloads.values())
    assert f"declare i32 @{symbol}" in compiled.library.get_llvm_str()


def test_errors_of_an_external_kernel_reach_python() -> None:
    @exact
    def refuse(x: Any) -> Any:
        if x > 1:
            raise ValueError("too much")
        return x

    call = external(refuse)

    @exact
    def caller(x: Any) -> Any:
        return call(x)

    assert caller(1) == 1
    with pytest.raises(ValueError, match="too much"):
        caller(2)


def test_no_iteration_waits_for_a_compiler() -> None:
    command = [sys.executable, "-m", "tests.runtime.iterations_that_compile"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    assert found.stdout == ""
