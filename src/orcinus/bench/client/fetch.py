"""Single GET requests to a server, for models and counters."""

from __future__ import annotations

import asyncio

from orcinus.bench.client.pool import Pool
from orcinus.bench.client.target import Target
from orcinus.bench.record import RequestOutcome


async def fetch(target: Target, path: str, seconds: float) -> tuple[int, bytes]:
    """Status and body of a GET. Raises `TimeoutError` or `ConnectionError`."""
    answer, pool = _Body(), Pool(target)
    try:
        pool.send(target.head("GET", path) + b"\r\n", answer)
        return await asyncio.wait_for(answer.whole, seconds)
    finally:
        await pool.close()


class _Body:
    """Collects the body."""

    def __init__(self) -> None:
        self.whole: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._status, self._body = 0, bytearray()

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self._status = status

    def on_body(self, data: bytes, at: float) -> None:
        self._body += data

    def on_end(self, at: float) -> None:
        if not self.whole.done():
            self.whole.set_result((self._status, bytes(self._body)))

    def on_lost(self, outcome: RequestOutcome, reason: str, *, stale: bool) -> None:
        if not self.whole.done():
            self.whole.set_exception(ConnectionError(reason))
