"""How late the client is, and when that is too late."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from orcinus.bench.client.delay import BEAT_S, Heartbeat, client_delay, lateness
from orcinus.bench.record import ClientDelay, RequestRecord

ONE = RequestRecord(number=0, prompt_tokens=1, output_tokens=1, due=1.0, sent=1.0, ended=2.0)
NONE = ClientDelay(send_p50=0, send_p99=0, send_max=0, loop_p50=0, loop_p99=0, loop_max=0)


def beats(blocked: float) -> list[float]:
    """The lags of a loop that is blocked for some seconds."""

    async def test() -> list[float]:
        heart = Heartbeat(lambda: None)
        heart.start()
        await asyncio.sleep(4 * BEAT_S)
        time.sleep(blocked)
        await asyncio.sleep(4 * BEAT_S)
        heart.stop()
        return heart.lags

    return asyncio.run(test())


def test_a_blocked_loop_was_late_for_every_beat_it_missed() -> None:
    """One late beat among hundreds would hide in any percentile: so the beats that were left out count as well."""
    late = sorted(lag for lag in beats(0.2) if lag > 0.1)
    assert max(late) >= 0.2 - BEAT_S
    assert len(late) >= 0.1 / BEAT_S - 2
    assert all(after - before == pytest.approx(BEAT_S, abs=1e-6) for before, after in zip(late, late[1:], strict=False))


def test_a_free_loop_is_hardly_late() -> None:
    assert sorted(beats(0.0))[2] < BEAT_S


def test_a_beat_that_never_came_counts() -> None:
    async def test() -> list[float]:
        heart = Heartbeat(lambda: None)
        heart.start()
        time.sleep(0.05)
        heart.stop()
        return heart.lags

    assert max(asyncio.run(test())) >= 0.04


def test_delays_of_sending_are_those_of_requests() -> None:
    requests = [replace(ONE, number=number, sent=1.0 + number / 1000) for number in range(101)]
    delay = client_delay(requests, [0.0, 0.5])
    assert delay is not None
    assert (delay.send_p50, delay.send_p99, delay.send_max) == pytest.approx((0.05, 0.099, 0.1))
    assert (delay.loop_p50, delay.loop_max) == (0.25, 0.5)


def test_nothing_measured_is_no_delay() -> None:
    assert client_delay([], [0.1]) is None
    assert client_delay([ONE], []) is None
    assert lateness(None, 0.01) == []


def test_each_of_both_makes_a_run_unbelievable() -> None:
    assert lateness(replace(NONE, send_p99=0.01, loop_p99=0.01, send_max=9, loop_max=9), 0.01) == []
    (sent,) = lateness(replace(NONE, send_p99=0.0123), 0.01)
    assert sent.startswith("The client sent late: P99 12.3 ms, more than 10 ms. Run it on another machine")
    (read,) = lateness(replace(NONE, loop_p99=1.5), 0.01)
    assert read.startswith("The client read late: its event loop's P99 delay is 1500 ms, more than 10 ms. Run it")
    assert lateness(replace(NONE, send_p99=1.0), 0.01, sending=False) == []
