"""Threads for text work that would block the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from orcinus.serve.errors import ApiError

T = TypeVar("T")
MOST_COUNTED = 16  # texts tokenized at once without an answer


class _TakesTooLong(BaseException):
    """Interrupts a thread, between two bytecodes."""


@dataclass(slots=True)
class _Job:
    """A call, and the thread that runs it."""

    call: Callable[[], Any]
    lock: threading.Lock = field(default_factory=threading.Lock)
    began: float | None = None
    thread: int | None = None

    def run(self) -> Any:
        with self.lock:
            self.began, self.thread = time.monotonic(), threading.get_ident()
        try:
            return self.call()
        finally:
            with self.lock:  # from here on the thread may run another job
                self.thread = None

    def interrupt(self) -> None:
        with self.lock:
            if self.thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.thread), ctypes.py_object(_TakesTooLong))


class TextThreads:
    """A few threads for text work.

    A call that runs longer than `limit_s` is interrupted; waiting for a free thread does not count.
    """

    def __init__(self, count: int = 2, limit_s: float = 10.0) -> None:
        self.limit_s = limit_s
        self._counted = 0  # texts being tokenized without an answer
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="text")

    @contextmanager
    def counting(self) -> Iterator[None]:
        """A place among the texts being tokenized without an answer.

        Raises `ApiError` 429 if there is none.
        """
        if self._counted >= MOST_COUNTED:
            message = f"{self._counted} texts are being tokenized already; try again in 1 s"
            raise ApiError(429, message, code="queue_full", headers={"Retry-After": "1"})
        self._counted += 1
        try:
            yield
        finally:
            self._counted -= 1

    async def run(self, call: Callable[..., T], *arguments: Any) -> T:
        """Run a call in a thread. Raises its exceptions, or `TimeoutError`."""
        job = _Job(lambda: call(*arguments))
        future = asyncio.get_running_loop().run_in_executor(self._pool, job.run)
        while not future.done():
            left = self.limit_s if job.began is None else self.limit_s - (time.monotonic() - job.began)
            if left <= 0:
                job.interrupt()
                await asyncio.wait((future,))
                future.exception()  # heard
                raise TimeoutError
            await asyncio.wait((future,), timeout=max(left, 0.001))
        found: T = await future
        return found

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
