"""Kernels run on a CPU here: triton interprets them. For conftests; where there is no triton, there is nothing to test."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from orcinus.cache import cache_folder
from orcinus.runtime.kernels import available
from orcinus.runtime.kernels.launch_configs import remembered
from tests.examples import whole

INTERPRET = "TRITON_INTERPRET"

collect_ignore_glob = [] if available() else ["test_*.py"]

if available():
    os.environ[INTERPRET] = "1"  # read when triton, and when each kernel, is imported
    import numpy as np
    import triton.language as tl
    from triton.language.semantic import TritonSemantic
    from triton.runtime import interpreter
    from triton.runtime.interpreter import InterpreterBuilder, InterpreterOptions, TensorHandle

    def _rounded(self: Any, src: Any, to: Any) -> Any:
        """To bfloat16 by rounding to nearest, ties to even, as a device does; the interpreter would cut the bits off."""
        if src.dtype.scalar is not tl.float32 or to.scalar is not tl.bfloat16:
            return _cast(self, src, to)
        bits = np.ascontiguousarray(src.data).view(np.uint32).astype(np.uint64)
        return TensorHandle(((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16), to.scalar)

    def _widened(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        """A product of bfloat16 matrices in float32; the interpreter would multiply their bits as whole numbers."""
        if a.dtype.scalar is tl.bfloat16:
            a, b = _cast(self, a, tl.float32), _cast(self, b, tl.float32)
        return _dot(self, a, b, *rest)

    def _broadcast(self: Any, a: Any, b: Any) -> Any:
        """Blocks of equal shapes as they are; the interpreter would copy both, because it takes a list for no tuple."""
        if a.type.is_block() and b.type.is_block() and a.type.shape == b.type.shape:
            return a, b
        return _broadcast_any(self, a, b)

    def _dtype_of(kind: Any) -> Any:
        """NumPy's type for one of triton's; the interpreter would make a table of all types for each question."""
        scalar = kind.scalar
        if isinstance(scalar, tl.pointer_type):
            return _dtype_of_any(scalar)
        if scalar.name not in _dtypes:
            _dtypes[scalar.name] = _dtype_of_any(scalar)
        return _dtypes[scalar.name]

    @cache
    def _sizes(shape: tuple[int, ...]) -> tuple[Any, Any]:
        return tl.constexpr(math.prod(shape)), tl.tuple([tl.constexpr(size) for size in shape])

    def _tensor(self: Any, handle: Any, kind: Any) -> None:
        """A tensor whose shape, which nothing changes, is that of all like it; the interpreter would make a new one."""
        self.handle, self.type, self.dtype = handle, kind, kind.scalar
        self.numel, self.shape = _sizes(kind.shape if kind.is_block() else ())

    @cache
    def _block_of(shape: tuple[int, ...]) -> tuple[Any, Any]:
        made = object.__new__(tl.block_type)
        _any_block(made, tl.int32, list(shape))
        return made.shape, made.numel

    def _block(self: Any, element: Any, shape: Any) -> None:
        """A block's type. Its shape is checked the first time."""
        if not all(type(size) is int for size in shape):
            _any_block(self, element, shape)
            return
        self.element_ty, (self.shape, self.numel) = element, _block_of(tuple(shape))
        self.name = f"<{self.shape}, {element}>"

    class _PatchedOnce:
        """triton's language, turned to the interpreter once for each module; triton does so at every call of a function."""

        def __init__(self) -> None:
            self._scopes: dict[int, Any] = {}

        def __call__(self, function: Any) -> Any:
            module = id(function.__globals__)
            if module not in self._scopes:
                self._scopes[module] = _patch_lang(function)
            return interpreter._LangPatchScope()  # in which nothing is to be restored

        def restore(self) -> None:
            for scope in reversed(self._scopes.values()):
                scope.restore()

    _cast, _dot = InterpreterBuilder.cast_impl, InterpreterBuilder.create_dot
    _broadcast_any, _dtype_of_any = TritonSemantic.broadcast_impl_value, interpreter._get_np_dtype
    _patch_lang, _any_block = interpreter._patch_lang, tl.block_type.__init__
    _dtypes = dict[str, Any]()


@pytest.fixture(autouse=True, scope="package")
def interpreted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore", invalid="ignore"):  # a device warns of nothing
        patch.setenv(INTERPRET, "1")
        patch.setattr(InterpreterBuilder, "cast_impl", _rounded)
        patch.setattr(InterpreterBuilder, "create_dot", _widened)
        patch.setattr("orcinus.runtime.gpu.executor.batches", lambda *_: ())  # nothing is compiled, and they take a minute
        patch.setattr(TritonSemantic, "broadcast_impl_value", _broadcast)
        patch.setattr(interpreter, "_get_np_dtype", _dtype_of)
        patch.setattr(tl.tensor, "__init__", _tensor)
        patch.setattr(tl.block_type, "__init__", _block)
        # To look at every sum and product for an overflow takes a third of the time.
        patch.setattr(interpreter.interpreter_builder, "options", InterpreterOptions(sanitize_overflow=whole()))
        once = _PatchedOnce()
        patch.setattr(interpreter, "_patch_lang", once)
        yield
        once.restore()


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No launch that was tuned on this machine has a say, and none that a test tunes is kept. What Numba compiled is kept."""
    usual = cache_folder("NUMBA_CACHE_DIR")
    monkeypatch.setattr("orcinus.runtime.compiled.cache_folder", lambda variable: usual)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    remembered.cache_clear()


def pytest_collection_finish() -> None:
    """Everything is imported: what else this process starts need not interpret."""
    os.environ.pop(INTERPRET, None)
