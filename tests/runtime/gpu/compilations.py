"""What a device would have to compile: which programs triton would make of the launches that the interpreter sees."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from triton.runtime.interpreter import InterpretedFunction

from orcinus.runtime.gpu import executor, warm_up
from orcinus.runtime.kernels import argmax, sample


def program(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[object, ...]:
    """What triton 3.6 keeps a compiled kernel under: types, constants, and which numbers and addresses are multiples of 16.

    A whole number of 1 is a constant too, unless it is not to be specialised.
    """
    plain = kernel.kwargs.get("do_not_specialize") or ()
    parameters = inspect.signature(kernel.fn).parameters
    given = dict(zip(parameters, args, strict=False)) | kwargs
    parts: list[object] = [kernel.fn.__name__]
    for name, value in given.items():
        if name not in parameters or "constexpr" in str(parameters[name].annotation):
            parts.append((name, value))  # an option, or a constant
        elif isinstance(value, Tensor):
            parts.append((name, value.dtype, value.data_ptr() % 16 == 0))
        elif isinstance(value, float):
            parts.append((name, float))
        else:
            parts.append((name, "any" if name in plain else "1" if value == 1 else value % 16 == 0))
    return tuple(parts)


@contextmanager
def compiled() -> Iterator[set[tuple[object, ...]]]:
    """The programs of all launches inside. They do not run, which would take a thousand times as long: every token is a 0."""
    seen: set[tuple[object, ...]] = set()

    def instead(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        seen.add(program(self, args, kwargs))

    def zeros(logits: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(logits), dtype=torch.int64), torch.zeros(len(logits))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "batches", warm_up.batches)  # which other tests go without
        patch.setattr(InterpretedFunction, "run", instead)
        patch.setattr(argmax, "chosen", zeros)
        patch.setattr(sample, "chosen", zeros)
        yield seen
