"""The client's own delay, which is part of the latencies it measures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from orcinus.bench.record import ClientDelay, RequestRecord
from orcinus.observe.latency import percentile

BEAT_S = 0.005  # interval of beats


class Heartbeat:
    """Measures the event loop's delay, and calls `on_beat` at every beat."""

    def __init__(self, on_beat: Callable[[], None]) -> None:
        self._on_beat = on_beat
        self._next = 0.0  # beat
        self._timer: asyncio.TimerHandle | None = None
        self.lags: list[float] = []  # seconds

    def start(self) -> None:
        """Start; the first beat is one interval away."""
        self._next = time.monotonic() + BEAT_S
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._beat)

    def stop(self) -> None:
        """Stop beating."""
        if self._timer is not None:
            self._timer.cancel()
            self._note()

    def _beat(self) -> None:
        self._note()
        self._on_beat()
        self.start()

    def _note(self) -> None:
        """Record a lag, and the lags of the beats that it delayed.

        Otherwise a loop that was blocked for a second would count as one late beat among hundreds in time (Gil Tene's
        "coordinated omission", corrected by the expected interval, as in HdrHistogram).
        """
        lag = max(0.0, time.monotonic() - self._next)
        self.lags.append(lag)
        while (lag := lag - BEAT_S) > 0:
            self.lags.append(lag)


def client_delay(requests: Sequence[RequestRecord], lags: Sequence[float]) -> ClientDelay | None:
    """The client's delays in seconds; None without measurements."""
    sends = sorted(max(0.0, request.sent - request.due) for request in requests)
    if not sends or not lags:
        return None
    ordered = sorted(lags)
    return ClientDelay(
        send_p50=percentile(sends, 50),
        send_p99=percentile(sends, 99),
        send_max=sends[-1],
        loop_p50=percentile(ordered, 50),
        loop_p99=percentile(ordered, 99),
        loop_max=ordered[-1],
    )


def lateness(delay: ClientDelay | None, most: float, *, sending: bool = True) -> list[str]:
    """Why a run is invalid: a sentence per P99 above the limit.

    The limit is `most` seconds. The delay of `sending` counts only where it matters.
    """
    if delay is None:
        return []
    found = []
    advice = "Run it on another machine or on a core of its own (taskset), or lower the rate."
    if sending and delay.send_p99 > most:
        found.append(f"The client sent late: P99 {_ms(delay.send_p99)}, more than {_ms(most)}. {advice}")
    if delay.loop_p99 > most:
        found.append(
            f"The client read late: its event loop's P99 delay is {_ms(delay.loop_p99)}, more than {_ms(most)}. {advice}"
        )
    return found


def _ms(seconds: float) -> str:
    return f"{round(1000 * seconds, 1):g} ms"
