"""Kernels that Numba compiled, kept on disk for later processes.

To compile a function, Numba copies into it all functions that it calls, and has LLVM optimise them again. That is right for
small ones. A large one called by a chain of others, or by a parallel loop, which Numba makes four functions of, is compiled as
often as the chain is long. So large ones are made `external`: they are compiled once, and only called.
"""

from __future__ import annotations

import fcntl
import logging
import time
from functools import partial
from pathlib import Path
from typing import IO, Any

import numba
from numba import types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.typing import signature
from numba.extending import intrinsic

from orcinus.cache import cache_folder
from orcinus.errors import one_line

log = logging.getLogger(__name__)
LONGEST_WAIT_S = 60.0  # for another process to compile a kernel, which takes seconds
POLL_S = 0.02
FAST = {"nnan", "nsz", "arcp", "contract", "afn", "reassoc"}  # let LLVM reorder sums; infinities stay meaningful

# Decorators of all compiled functions. Without flags of its own, a function has those of whichever kernel calls it first.
exact = partial(numba.njit, fastmath=False, error_model="numpy")  # operations as written, in their order
reordered = partial(numba.njit, fastmath=FAST, error_model="numpy")


class _CompileLock:
    """A lock between processes: held while one of them compiles a kernel. It is best effort, and ends with its process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def acquire(self) -> None:
        """Wait for the lock, at most `LONGEST_WAIT_S`; go on without it after that, or where files cannot be locked."""
        deadline = time.monotonic() + LONGEST_WAIT_S
        try:
            self._file = self._file or self._path.open("wb")
            while time.monotonic() < deadline:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    time.sleep(POLL_S)
        except OSError as error:
            log.info("%s cannot be locked: %s", self._path, one_line(error))
        self.release()

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


_externals: dict[str, Any] = {}  # kernels by the names of their functions
_symbols: dict[str, tuple[str, tuple[Any, ...]]] = {}  # of compiled ones: the name of the function, and the types of arguments


def external(kernel: Any) -> Any:
    """A kernel, kept on disk, for others that are to call it and not to contain it; they alone can call what is returned."""
    kernel = keep_compiled(kernel)
    name = f"{kernel.py_func.__module__}.{kernel.py_func.__qualname__}"
    _externals[name] = kernel

    @intrinsic  # type: ignore[untyped-decorator]
    def call(_: Any, *arguments: Any) -> Any:
        given = tuple(map(types.unliteral, arguments))
        kernel.compile(given)
        compiled = kernel.overloads[given]
        _symbols[compiled.fndesc.llvm_func_name] = name, given

        def generate(context: Any, builder: Any, _: Any, values: Any) -> Any:
            passed = zip(cgutils.unpack_tuple(builder, values[0]), arguments, given, strict=True)
            cast = [context.cast(builder, value, its, wanted) for value, its, wanted in passed]
            return context.call_internal(builder, compiled.fndesc, compiled.signature, cast)

        return signature(compiled.signature.return_type, types.StarArgTuple.from_types(arguments)), generate

    return call


class _WithExternals(CompileResultCacheImpl):  # type: ignore[misc]
    """Loads the external kernels that a kernel on disk calls, before it."""

    def reduce(self, compiled: Any) -> Any:
        functions = compiled.library._final_module.functions
        called = {f.name: _symbols[f.name] for f in functions if f.is_declaration and f.name in _symbols}
        return called, super().reduce(compiled)

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        called, kept = payload
        for symbol, (name, given) in called.items():
            kernel = _externals[name]
            kernel.compile(given)
            if kernel.overloads[given].fndesc.llvm_func_name != symbol:
                raise ValueError(f"{name} was compiled again")
            _symbols[symbol] = name, given
        return super().rebuild(target_context, kept)


class _Forgiving(FunctionCache):  # type: ignore[misc]
    """A cache that ignores disk errors: the kernel is compiled again.

    It is fresh as long as no file beside the kernel's own has changed: kernels are made of functions of several files.
    Processes that need a kernel at the same time, such as ranks, compile it once: the others wait and load it.
    """

    _impl_class = _WithExternals

    def __init__(self, py_func: Any) -> None:
        super().__init__(py_func)
        files = sorted(Path(py_func.__code__.co_filename).parent.glob("*.py"))
        self._cache_file._source_stamp = [(file.name, file.stat().st_mtime, file.stat().st_size) for file in files]
        self._lock = _CompileLock(Path(self._cache_file._index_path).with_suffix(".lock"))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kernel of a signature, or None if this process is to compile it; `save_overload` ends its turn."""
        found = self._load(sig, target_context)
        if found is None and self._enabled:
            self._lock.acquire()
            found = self._load(sig, target_context)  # another process may have compiled it meanwhile
            if found is not None:
                self._lock.release()
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
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
        finally:
            self._lock.release()

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
