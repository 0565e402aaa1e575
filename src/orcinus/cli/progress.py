"""Progress on stderr: bars where there is a terminal to see them; for downloads, lines where there is none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

REFRESH_S = 0.1
LINES = 10  # of a whole download
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


class Bars:
    """Makes bars."""

    def __init__(self, shown: Progress) -> None:
        self._shown = shown

    def bar(self, name: str, total: int) -> Callable[..., None]:
        """A new bar: a function of amount done and total.

        The bar vanishes when all is done.
        """
        task, last = self._shown.add_task(name, total=total), 0.0

        def done(count: int, of: int = total) -> None:
            nonlocal last
            now = time.perf_counter()
            if now - last >= REFRESH_S or count >= of:
                last = now
                self._shown.update(task, completed=count, total=of, visible=count < of)

        return done


@contextmanager
def progress() -> Iterator[Bars]:
    """Bars for the block; they vanish afterwards."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        yield Bars(shown)


@contextmanager
def download_progress(name: str) -> Iterator[Callable[[int, int], None]]:
    """A function of bytes done and in all for the block: a bar on a terminal, else a line for each tenth."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(name, console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(name, total=None, visible=False)
        yield lambda done, total: shown.update(task, completed=done, total=total, visible=True)


def _lines(name: str, console: Console) -> Callable[[int, int], None]:
    told, lock = -1, Lock()

    def show(done: int, total: int) -> None:
        nonlocal told
        part = LINES * done // max(1, total)
        with lock:  # files come in threads of their own
            if part > told:
                told = part
                line = f"{name}: {size(done)} of {size(total)}"
                console.print(line, soft_wrap=True, highlight=False, markup=False)

    return show


def size(count: int) -> str:
    """A number of bytes in the largest unit of which there is one, such as 1.4 GiB."""
    power = min(len(UNITS) - 1, max(0, count.bit_length() - 1) // 10)
    return f"{count / 2 ** (10 * power):.{int(power > 1)}f} {UNITS[power]}"
