"""Promises at the door: what is predicted comes true, and what is accepted is kept. On a simulation's clock."""

from __future__ import annotations

import random

import pytest

from orcinus.core.batch import Finished, Token
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.promises import MeasuredPromise, Promises, PromiseVerdict
from orcinus.core.request import Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.slo import SLO
from orcinus.core.view import Limits
from orcinus.cost.work import IterationWork
from orcinus.sim.clock import VirtualClock
from orcinus.sim.executor import SimulatedExecutor

ITERATION, PROMPT = 0.01, 1e-4  # seconds of an iteration, and of each of its tokens


class Linear:
    """A machine of whose iterations everything is known."""

    num_stages = 1

    pause = 0.0  # seconds that its next iteration takes longer

    def stages(self, work: IterationWork) -> tuple[float, ...]:
        pause, self.pause = self.pause, 0.0
        return (ITERATION + PROMPT * work.tokens + pause,)


class World:
    """An engine on a virtual clock, with a door."""

    def __init__(self, policy: str = "stall-free:token_budget=128", order: str = "fcfs", places: int = 4, **kv: int) -> None:
        self.clock = VirtualClock()
        limits = Limits(places, 1024, 4096)
        memory = KV_MANAGERS["prefix-cache"](kv.get("blocks", 4096), 16, limits)
        self.scheduler = Scheduler(make_policy(policy), memory, limits, make_order(order))
        self.machine = Linear()
        self.executor = SimulatedExecutor(self.machine, self.clock)
        self.promises = Promises(self.scheduler)
        self.engine = Engine(self.scheduler, self.executor, self.clock, [self.promises])
        self.measured: dict[str, MeasuredPromise] = {}
        self.ended: dict[str, float] = {}
        self.number = 0

    def request(self, tokens: int = 100, answer: int = 20, *, priority: int = 0, **slo: float) -> Request:
        self.number += 1
        params = SamplingParams(max_tokens=answer, seed=0)
        context = RequestContext(priority=priority, slo=SLO(slo) if slo else None)
        return Request(str(self.number), (self.number,) * tokens, params, self.clock.now(), context)

    def ask(self, request: Request) -> PromiseVerdict:
        return self.promises.ask(request, self.clock.now())

    def add(self, request: Request) -> Request:
        self.measured[request.id] = MeasuredPromise(request.context.slo or SLO({}), request.arrival)
        self.engine.submit(request)
        self.engine.dispatch()
        return request

    def run(self, until: float = float("inf")) -> None:
        """Up to a time, or to the last answer."""
        self.engine.dispatch()
        while (end := self.executor.next_end) is not None and end <= until:
            for event in self.engine.settle():
                if isinstance(event, Token):
                    self.measured[event.request_id].add(event.at)
                elif isinstance(event, Finished):
                    self.ended[event.request_id] = event.at
            self.engine.dispatch()
        if until < float("inf"):
            self.clock.jump(max(until, self.clock.now()))

    def warm(self) -> World:
        """Iterations of many sizes, so that their time is known, and answers that reach their limits."""
        for tokens in (10, 40, 100, 120, 300, 60, 90):
            self.add(self.request(tokens))
            self.add(self.request(tokens // 2 + 1))
            self.run()
        return self

    def found(self, request: Request) -> dict[str, float]:
        return self.measured[request.id].latencies(self.ended[request.id])


def test_a_forecast_with_places_waits_and_chunks_comes_true() -> None:
    world = World().warm()
    for tokens, answer in ((100, 20), (500, 40), (50, 10), (200, 30), (300, 5), (100, 20)):
        world.add(world.request(tokens, answer))
    asked = world.request(250, 16, ttft=60.0)
    found, _ = world.promises._forecaster.forecast(asked, world.clock.now(), lambda request, at: False) or pytest.fail("cold")
    world.add(asked)
    world.run()
    true = world.found(asked)
    assert found.ttft == pytest.approx(true["ttft"], abs=2 * ITERATION), "a batch in flight is not counted"
    assert found.e2e == pytest.approx(true["e2e"], rel=0.15)
    assert true["tbt"] <= found.tbt <= 1.01 * (ITERATION + 128 * PROMPT), "prompts of later requests may come between"


@pytest.mark.parametrize("policy", ["orca", "prefill-first", "sarathi:chunk_size=128", "latency-target:tbt=0.05"])
def test_forecasts_follow_the_policy(policy: str) -> None:
    world = World(policy).warm()
    for tokens, answer in ((100, 20), (500, 40), (50, 10), (200, 30), (300, 12)):
        world.add(world.request(tokens, answer))
    asked = world.request(250, 16, ttft=60.0)
    found, _ = world.promises._forecaster.forecast(asked, world.clock.now(), lambda request, at: False) or pytest.fail("cold")
    world.add(asked)
    world.run()
    assert found.ttft == pytest.approx(world.found(asked)["ttft"], rel=0.25)


def test_memory_that_is_short_is_waited_for() -> None:
    world = World(blocks=40).warm()  # 640 tokens
    world.add(world.request(400, 60))
    asked = world.request(300, 10, ttft=60.0)
    found, _ = world.promises._forecaster.forecast(asked, world.clock.now(), lambda request, at: False) or pytest.fail("cold")
    world.add(asked)
    world.run()
    assert world.found(asked)["ttft"] > 60 * ITERATION, "it waits for the end of the first one"
    assert found.ttft == pytest.approx(world.found(asked)["ttft"], rel=0.1)


def test_a_request_that_can_be_served_in_time_is_accepted_and_one_that_cannot_is_told_when_to_come() -> None:
    world = World(places=1).warm()
    world.add(world.request(100, 200))  # 2 s
    refused = world.ask(patient := world.request(100, 20, ttft=0.5))
    assert (refused.accepted, refused.never) == (False, False)
    assert refused.predicted["ttft"] > 1.5
    assert world.ask(world.request(100, 20, ttft=30.0)).accepted
    assert 1 <= refused.retry_after <= 4
    world.run(world.clock.now() + refused.retry_after)
    again = Request("again", patient.prompt, patient.params, world.clock.now(), patient.context)
    assert world.ask(again).accepted


def test_an_slo_that_no_engine_could_keep_is_refused_for_good() -> None:
    world = World().warm()
    for slo in ({"ttft": 0.001}, {"tbt": 0.001}, {"tpot": 0.001}, {"e2e": 0.1}):
        verdict = world.ask(world.request(300, 50, **slo))
        assert (verdict.accepted, verdict.never) == (False, True), slo


def test_a_request_that_would_break_anothers_promise_is_refused() -> None:
    world = World(order="priority:aging=10", places=1).warm()
    world.add(world.request(100, 100))
    waiting = world.request(100, 20, ttft=2.6)
    assert world.ask(waiting).accepted
    world.add(waiting)
    urgent = world.request(100, 200, priority=-5, ttft=10.0)  # it would overtake
    assert not world.ask(urgent).accepted
    assert world.ask(world.request(100, 150, priority=5, ttft=30.0)).accepted, "behind it there is room"
    world.run()
    assert world.measured[waiting.id].kept(world.ended[waiting.id])


def test_a_smaller_bound_between_tokens_binds_later_requests_too() -> None:
    world = World("orca").warm()
    careful = world.request(100, 60, tbt=0.05)
    assert world.ask(careful).accepted
    world.add(careful)
    assert not world.ask(world.request(900, 10, ttft=60.0)).accepted, "its prompt would stall the first for 0.1 s"
    assert world.ask(world.request(100, 10, ttft=60.0)).accepted


def test_pauses_of_the_machine_do_not_close_the_door_of_an_idle_engine() -> None:
    world = World().warm()
    for _ in range(2):
        world.machine.pause = 0.5
        world.add(world.request(100, 2))
        world.run()
    assert world.scheduler.step_time.measured > 0.4
    slo = {"ttft": 1.0, "tbt": 0.2}
    first = world.request(100, 300, **slo)
    assert world.ask(first).accepted, "no iteration would show that the machine is fast again"
    world.add(first)
    assert not world.ask(world.request(100, 10, **slo)).accepted, "two of the last iterations were too long"
    world.run(world.clock.now() + 2.8)
    assert world.ask(world.request(100, 10, **slo)).accepted


def test_a_busier_engine_than_predicted_does_not_close_the_door() -> None:
    """The gaps of a request that came to an idle engine grow when others come: up to what these are allowed."""
    world, slo = World(places=16).warm(), {"ttft": 1.0, "tbt": 0.03}
    for _ in range(4):
        for tokens, answer in ((10, 400), *[(100, 5)] * 6):
            request = world.request(tokens, answer, **slo)
            assert world.ask(request).accepted, "no iteration may take more than 10 + 12.8 ms"
            world.add(request)
            world.run(world.clock.now() + 1.4 * (answer == 400))
        world.run()


def test_one_disturbance_does_not_forbid_to_wait() -> None:
    """It delays all requests by as much, however long they wait."""
    world = World(places=1).warm()
    for number in range(600):
        world.machine.pause = 0.3 if number in (450, 500, 550) else 0.0
        request = world.request(100, 5, ttft=1.0)
        assert world.ask(request).accepted
        world.add(request)
        world.run()
    for answer in [30] * 60 + [50]:
        world.add(world.request(100, answer))
        world.run(world.clock.now() + 0.05)
        request = world.request(100, 5, ttft=1.0)
        verdict = world.ask(request)
        assert verdict.accepted
        world.add(request)
        world.run()
    assert 0.75 < verdict.predicted["ttft"] < 1.0, "half a second of waiting, and the disturbance"


def test_a_cold_engine_accepts_as_many_as_run_at_once() -> None:
    world = World(places=2)
    verdicts = []
    for _ in range(3):
        request = world.request(ttft=1.0)
        verdicts.append(world.ask(request))
        if verdicts[-1].accepted:
            world.add(request)
    assert [verdict.accepted for verdict in verdicts] == [True, True, False]
    assert verdicts[2].retry_after == 1


def test_a_full_queue_has_room_for_those_who_come_as_they_were_told() -> None:
    for world in (World(), World().warm()):
        first = world.request(100, 20, ttft=60.0)
        verdict = world.promises.ask(first, world.clock.now(), full=True)
        assert not verdict.accepted
        world.run(world.clock.now() + verdict.retry_after)
        other = world.request(100, 20, ttft=60.0)
        assert not world.promises.ask(other, world.clock.now(), full=True).accepted
        assert world.promises.ask(first, world.clock.now(), full=True).accepted


def test_a_burst_at_a_cold_engine_is_told_times_that_hold() -> None:
    world, draw = World(places=4), random.Random(0)
    coming = [(0.0, world.request(20, draw.randint(5, 50), ttft=1.0), False) for _ in range(60)]
    obeyed, accepted = 0, 0
    while coming:
        at, request, told = min(coming, key=lambda one: (one[0], int(one[1].id)))
        coming.remove((at, request, told))
        world.run(at)
        request.arrival = at
        verdict = world.ask(request)
        obeyed, accepted = obeyed + told, accepted + (told and verdict.accepted)
        if verdict.accepted:
            world.add(request)
        else:
            coming.append((at + verdict.retry_after, request, True))
    world.run()
    assert obeyed >= 56, "four find a place at once"
    assert accepted >= 0.95 * obeyed


def test_a_kept_promise_is_one_whose_every_bound_was_kept() -> None:
    measured = MeasuredPromise(SLO({"ttft": 0.5, "tbt": 0.1}), 10.0)
    for at in (10.4, 10.45, 10.5):
        measured.add(at)
    assert measured.kept(10.5)
    measured.add(10.7)
    assert not measured.kept(10.7)
    assert measured.latencies(10.7) == pytest.approx({"ttft": 0.4, "tbt": 0.2, "tpot": 0.1, "e2e": 0.7})
    assert not MeasuredPromise(SLO({"ttft": 5.0}), 0.0).kept(1.0), "no token came"
