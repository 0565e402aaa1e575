"""Sends a workload's requests when they are due, and records them."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from orcinus.bench.client.bodies import Ahead, Form
from orcinus.bench.client.delay import Heartbeat, client_delay, lateness
from orcinus.bench.client.exchange import Exchange
from orcinus.bench.client.pool import Pool
from orcinus.bench.record import Repeat, RequestRecord
from orcinus.machine_load import load_average
from orcinus.workload.arrival import Arrival
from orcinus.workload.processes import AllAtOnce
from orcinus.workload.source import source_of
from orcinus.workload.workload import Workload

MAX_DELAY_S = 0.010
SHORTEST_S = 0.001  # least timer wait: event loops count in milliseconds, and would spin in the last one
SENDING_S = 0.002  # most seconds of sending at a time; then the loop reads answers
WRITING_S = 0.001  # most seconds per heartbeat to write requests ahead
WATCHED_S = 0.1  # seconds between calls of `watch`
T = TypeVar("T")


class LoadGenerator:
    """One run of one workload; `so_far` has its records at any time.

    In a closed loop the n-th request is the same for every client. A refused client waits as long as the server says before
    it thinks and tries again; an open loop only counts refusals. `timeout`: seconds for a whole request. `max_delay`: the
    run is invalid if the client's own delay (P99) exceeds this many seconds. `draw`: which prompts
    (`orcinus.workload.prompts`). `watch` hears now and then how many requests have ended.
    """

    def __init__(
        self,
        form: Form,
        workload: Workload,
        *,
        timeout: float,
        max_delay: float = MAX_DELAY_S,
        round: int = 0,  # noqa: A002  (as in the record)
        draw: int = 0,
        watch: Callable[[int], None] | None = None,
    ) -> None:
        self._workload, self._timeout, self._max_delay = workload, timeout, max_delay
        self._round, self._draw = round, draw
        self._watch, self._watched = watch, 0.0
        self._source, self._orders = source_of(workload), Ahead(form.orders(workload, draw))
        self._pool, self._heart = Pool(form.target), Heartbeat(self._on_beat)
        self._live: dict[int, Exchange] = {}  # in the order in which they were sent
        self._ended: list[RequestRecord] = []
        self._sent = 0
        self._awaited: Arrival | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.start = 0.0  # of the run, on the monotonic clock
        self._over = asyncio.Event()
        self._load = load_average()

    async def prepare(self) -> None:
        """Write requests ahead: all, unless there are very many. Raises `ConfigError`."""
        while self._orders.prepare(0.05):
            await asyncio.sleep(0)  # lets a cancellation in

    async def run(self) -> Repeat:
        """Send all requests, and wait for the last one to end.

        Closes every connection, also when cancelled.
        """
        await self.prepare()
        with _no_collections():
            try:
                self.start = time.monotonic()
                self._heart.start()
                self._send_due()
                await self._over.wait()
            finally:
                self._heart.stop()
                self._tell()
                if self._timer is not None:
                    self._timer.cancel()
                await self._pool.close()
        return self.so_far()

    def so_far(self) -> Repeat:
        """The records of all requests that have ended."""
        requests = tuple(sorted(self._ended, key=lambda request: request.number))
        delay = client_delay(requests, self._heart.lags)
        at_once = isinstance(self._workload.arrivals, AllAtOnce)  # sends as fast as the client can
        return Repeat(
            round=self._round,
            seconds=max((request.ended for request in requests), default=0.0),
            requests=requests,
            client=delay,
            problems=tuple(lateness(delay, self._max_delay, sending=not at_once)),
            load=self._load,
            draw=self._draw,
        )

    def _send_due(self) -> None:
        began = time.monotonic()
        while (arrival := self._source.next) is not None:
            now = time.monotonic()
            wait = self.start + arrival.at - now
            if wait > 0 or now - began > SENDING_S:
                self._awaited = arrival
                pause = max(SHORTEST_S, wait) if wait > 0 else 0.0
                self._timer = asyncio.get_running_loop().call_later(pause, self._send_due)
                return
            self._send(arrival)
        self._awaited = self._timer = None
        if not self._live:
            self._over.set()

    def _send(self, arrival: Arrival) -> None:
        number, self._sent = self._sent, self._sent + 1
        self._source.take(str(number))
        exchange = Exchange(number, self.start + arrival.at, self._orders.take(), self._on_ended)
        self._live[number] = exchange
        exchange.send(self._pool)

    def _on_ended(self, exchange: Exchange) -> None:
        del self._live[exchange.number]
        self._ended.append(exchange.record(self.start))
        self._source.ended(str(exchange.number), time.monotonic() - self.start + exchange.retry_after)
        if self._source.next is not self._awaited or not self._live:
            if self._timer is not None:
                self._timer.cancel()
            self._send_due()

    def _on_beat(self) -> None:
        now = time.monotonic()
        expired = []
        for exchange in self._live.values():
            if now - exchange.sent < self._timeout:
                break
            expired.append(exchange)
        for exchange in expired:
            exchange.expire()
        self._orders.prepare(WRITING_S)
        if now - self._watched >= WATCHED_S:
            self._watched = now
            self._tell()

    def _tell(self) -> None:
        if self._watch is not None:
            self._watch(len(self._ended))


def execute(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop's event loop if installed, else asyncio's."""
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return asyncio.run(main)
    return uvloop.run(main)


@contextmanager
def _no_collections() -> Iterator[None]:
    """Disable garbage collection, whose pauses would distort latencies.

    A run leaves few cycles: reference counting frees its objects.
    """
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
