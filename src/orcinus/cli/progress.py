"""Progress bars on stderr, where there is a terminal to see them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

REFRESH_S = 0.1


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
