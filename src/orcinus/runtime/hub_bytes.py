"""How many bytes `huggingface_hub` has downloaded, in the form in which it takes progress bars."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm


def count_bytes(report: Callable[[int, int], None], total: int) -> type[Any]:
    """A class of silent progress bars that reports the bytes of one download, of `total`.

    There may be a bar of received bytes, one of written ones, and one of files: the furthest in bytes counts.
    """

    class ByteCount(tqdm):  # type: ignore[misc]
        furthest = 0

        def __init__(self, *args: Any, unit: str = "it", **options: Any) -> None:
            options.pop("name", None)  # huggingface_hub's own
            super().__init__(*args, **options | {"disable": True})
            self.in_bytes, self.count = unit == "B", 0

        def update(self, n: float | None = 1) -> None:
            """Add to what was done."""
            self.count += int(n or 0)
            if self.in_bytes and self.count > ByteCount.furthest:
                ByteCount.furthest = min(self.count, total)
                report(ByteCount.furthest, total)

    return ByteCount


SILENT = count_bytes(lambda done, total: None, 0)
