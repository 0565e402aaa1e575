"""When requests are sent, when their tokens came, and what is left of a run that was interrupted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from orcinus.bench.client.load_generator import LoadGenerator, execute
from orcinus.bench.client.prompts import Ids, asked
from orcinus.bench.record import Repeat, RequestOutcome
from orcinus.errors import ConfigError
from orcinus.workload.source import source_of
from orcinus.workload.workload import make_workload
from tests.bench.client.fake import Fake, Request, fake, run, token, workload

GAP_S = 0.02
SOON_S = 0.005  # for what should take no time: server and client take turns in one event loop, on a machine that others use


async def slow(request: Request) -> None:
    await asyncio.sleep(GAP_S)
    await request.tokens(4, gap=GAP_S)


async def at_once(request: Request) -> None:
    await request.tokens(3)


def served(answer: Any, arrivals: str, requests: int, tokens: int = 3, **options: Any) -> tuple[Repeat, Fake, float]:
    """A run, the server that saw it, its requests in the order of the workload, and when it began on the monotonic clock."""

    async def test() -> tuple[Repeat, Fake, float]:
        async with fake(answer) as server:
            load = LoadGenerator(
                server.form(), workload(arrivals, requests, tokens), **{"timeout": 10, "max_delay": 5, **options}
            )
            repeat = await load.run()
            server.requests.sort(key=lambda request: numbers[tuple(request.body["prompt"])])
            return repeat, server, load.start

    prompts = [each.prompt for each in asked(workload(arrivals, requests, tokens), Ids())]
    numbers = {prompt: number for number, prompt in enumerate(prompts)}
    found: tuple[Repeat, Fake, float] = run(test())
    return found


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("arrivals", ["poisson:rate=50", "constant:rate=50", "closed:clients=3", "closed:clients=3:think=0.05"])
def test_requests_are_sent_when_they_are_due(arrivals: str) -> None:
    repeat, server, start = served(slow, arrivals, 12, tokens=4)
    assert [one.outcome for one in repeat.requests] == [RequestOutcome.OK] * 12
    assert [one.number for one in repeat.requests] == list(range(12))
    late = [one.sent - one.due for one in repeat.requests]
    assert min(late) >= 0
    assert median(late) < SOON_S
    came = sorted(request.at - start for request in server.requests)  # connections may be accepted in another order
    arrived = [at - sent for at, sent in zip(came, sorted(one.sent for one in repeat.requests), strict=True)]
    assert min(arrived) >= 0
    assert median(arrived) < SOON_S


def test_an_open_loop_sends_when_its_arrivals_say_so() -> None:
    repeat, _, _ = served(slow, "gamma:rate=100:cv=2", 10, tokens=4)
    assert [one.due for one in repeat.requests] == pytest.approx([one.at for one in workload("gamma:rate=100:cv=2", 10)])


def test_in_a_closed_loop_a_client_has_one_request_at_a_time() -> None:
    repeat, _, _ = served(slow, "closed:clients=3", 12, tokens=4)
    for one in repeat.requests:
        assert sum(other.sent <= one.sent < other.ended for other in repeat.requests) <= 3
    assert sorted(one.due for one in repeat.requests)[:3] == [0, 0, 0]


def test_clients_of_a_closed_loop_think() -> None:
    eager, _, _ = served(at_once, "closed:clients=1", 5)
    thoughtful, _, _ = served(at_once, "closed:clients=1:think=0.1", 5)
    pauses = [after.due - before.ended for before, after in zip(thoughtful.requests, thoughtful.requests[1:], strict=False)]
    drawn = source_of(make_workload("closed:clients=1:think=0.1", "fixed:tokens=8,fixed:tokens=3", 5))
    expected = []
    for number in range(4):
        drawn.take(str(number))
        drawn.ended(str(number), 0.0)
        assert drawn.next is not None
        expected.append(drawn.next.at)
    assert pauses == pytest.approx(expected, abs=10 * SOON_S)
    assert all(pause >= drawn_pause - 1e-6 for pause, drawn_pause in zip(pauses, expected, strict=True))
    assert eager.seconds < thoughtful.seconds


def test_tokens_have_the_moments_at_which_they_were_written() -> None:
    repeat, server, start = served(slow, "constant:rate=20", 10, tokens=4)
    behind = [
        at - (written - start)
        for request, one in zip(server.requests, repeat.requests, strict=True)
        for at, written in zip(one.times, request.written, strict=False)  # without [DONE]
    ]
    assert len(behind) == 40
    assert min(behind) >= 0
    assert median(behind) < 0.001
    gaps = [after - before for one in repeat.requests for before, after in zip(one.times, one.times[1:], strict=False)]
    assert median(gaps) == pytest.approx(GAP_S, abs=SOON_S)


def test_the_time_to_accept_a_connection_is_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request counts as sent when we begin to connect."""
    connect = asyncio.BaseEventLoop.create_connection

    async def slowly(*given: Any, **named: Any) -> Any:
        await asyncio.sleep(0.2)
        return await connect(*given, **named)

    async def test() -> Repeat:
        async with fake(at_once) as server:
            return await LoadGenerator(server.form(), workload("all-at-once", 1), timeout=5).run()

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", slowly)
    (one,) = asyncio.run(test()).requests
    assert one.outcome is RequestOutcome.OK
    assert one.sent < 0.1
    assert one.times[0] - one.sent > 0.15


def test_many_at_once_use_a_connection_each() -> None:
    repeat, server, _ = served(slow, "all-at-once", 200, tokens=4)
    assert [one.outcome for one in repeat.requests] == [RequestOutcome.OK] * 200
    assert server.connections == 200
    assert repeat.valid, repeat.problems


def test_a_client_that_is_late_says_so() -> None:
    """Its requests may have been sent in time even so: then it read late."""

    async def blocking(request: Request) -> None:
        if request.number in (5, 10):
            time.sleep(0.1)  # the client shares this loop
        await request.tokens(3)

    repeat, _, _ = served(blocking, "constant:rate=200", 40, max_delay=0.01)
    assert not repeat.valid
    assert repeat.client is not None
    assert repeat.client.send_max > 0.05 < repeat.client.loop_max
    sent, read = repeat.problems
    assert sent.startswith("The client sent late: P99 ")
    assert read.startswith("The client read late: its event loop's P99 delay is ")
    assert all("more than 10 ms" in problem and "another machine" in problem for problem in repeat.problems)


def test_a_client_in_time_is_believed() -> None:
    repeat, _, _ = served(at_once, "constant:rate=100", 20, max_delay=0.5)
    assert repeat.valid
    assert repeat.client is not None
    assert 0 <= repeat.client.send_p50 <= repeat.client.send_p99 <= repeat.client.send_max < 0.5


def test_everything_at_once_cannot_be_sent_at_once() -> None:
    """That is no delay of the client. What it does not read in time is."""
    repeat, _, _ = served(at_once, "all-at-once", 300, max_delay=1e-9)
    assert not any("sent late" in problem for problem in repeat.problems)
    assert any("read late" in problem for problem in repeat.problems)


def test_an_interrupted_run_keeps_what_has_ended_and_leaves_no_connection() -> None:
    async def answer(request: Request) -> None:
        if request.number >= 3:
            await asyncio.sleep(20)
        await request.tokens(3)

    async def test() -> tuple[Repeat, bool]:
        async with fake(answer) as server:
            load = LoadGenerator(server.form(), workload("constant:rate=100", 100), timeout=20)
            running = asyncio.create_task(load.run())
            while len(load.so_far().requests) < 3:
                await asyncio.sleep(0.02)
            running.cancel()
            await asyncio.wait([running])
            for _ in range(100):
                if closed := all(reader.at_eof() for reader in server.readers):
                    break
                await asyncio.sleep(0.02)
            return load.so_far(), running.cancelled() and closed

    repeat, clean = run(test())
    assert clean
    assert [(one.number, one.outcome) for one in repeat.requests] == [(number, RequestOutcome.OK) for number in range(3)]
    assert repeat.seconds == max(one.ended for one in repeat.requests)


def test_nothing_was_measured_before_a_run() -> None:
    load = LoadGenerator(Fake(at_once, port=1).form(), workload("constant:rate=1", 1), timeout=1)
    assert load.so_far().requests == ()
    assert load.so_far().client is None


def test_a_run_can_be_watched() -> None:
    seen: list[int] = []
    served(at_once, "constant:rate=50", 25, watch=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 25
    assert 2 <= len(seen) <= 20


def test_every_run_of_a_workload_asks_the_same() -> None:
    def bodies(arrivals: str, mixed: str) -> list[tuple[Any, Any]]:
        async def test() -> list[tuple[Any, Any]]:
            async with fake(jittered) as server:
                await LoadGenerator(server.form(), make_workload(arrivals, mixed, 20), timeout=5).run()
                # sorted, because connections that are made at the same time may be accepted in any order
                return sorted((request.body["prompt"], request.body["max_tokens"]) for request in server.requests)

        found: list[tuple[Any, Any]] = run(test())
        return found

    async def jittered(request: Request) -> None:
        await asyncio.sleep(0.005 * (request.number % 3))
        await request.head()
        await request.frame(token(1, last=True))
        await request.end()

    mixed = "uniform:low=4:high=16,uniform:low=2:high=9"
    open_loop = bodies("constant:rate=500", mixed)
    assert open_loop == bodies("constant:rate=100", mixed)
    assert open_loop == bodies("closed:clients=4:think=0.01", mixed)
    assert len({tuple(prompt) for prompt, _ in open_loop}) == 20


def test_extra_fields_that_are_no_json_are_refused_before_anything_is_sent() -> None:
    async def test() -> int:
        async with fake(at_once) as server:
            form = server.form()
            form.target.extra["x"] = object()  # type: ignore[index]
            with pytest.raises(ConfigError, match="extra fields must be JSON"):
                await LoadGenerator(form, workload("constant:rate=1", 1), timeout=1).run()
            return len(server.requests)

    assert run(test()) == 0


def test_it_runs_on_asyncios_own_loop_too() -> None:
    async def test() -> Repeat:
        async with fake(at_once) as server:
            return await LoadGenerator(server.form(), workload("closed:clients=2", 6), timeout=5).run()

    assert [one.outcome for one in asyncio.run(test()).requests] == [RequestOutcome.OK] * 6


def test_where_uvloop_is_missing_asyncio_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    async def whose() -> str:
        return type(asyncio.get_running_loop()).__module__

    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    assert execute(whose()).startswith("asyncio")
