"""Retry-After is a promise: nine of ten who obey it find room, on a fresh server too. On a virtual clock."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from orcinus.serve.admission_control import AdmissionControl, Bounds, Ticket
from orcinus.serve.errors import ApiError
from orcinus.serve.retry_after import LATE_S, MOST_S, Progress, RetryAfter
from orcinus.sim.clock import VirtualClock


@dataclass
class Inside:
    """An answer inside the server."""

    ticket: Ticket
    length: int
    limit: int
    client: int
    tokens: int = 0


@dataclass
class World:
    """A server that runs `slots` answers at a time, first come first served, and clients who obey it."""

    slots: int
    bound: int
    length: Callable[[random.Random], tuple[int, int]]  # of an answer, and its limit
    obeyed: int = 0
    kept: int = 0  # of the promises that were obeyed
    waits: list[int] = field(default_factory=list)
    answered: int = 0

    def __post_init__(self) -> None:
        self.clock, self.random = VirtualClock(), random.Random(7)
        self.retry = RetryAfter(self.slots, self.clock.now)
        self.admission = AdmissionControl(Bounds(self.bound), self.promise, self.retry.held)
        self.inside: list[Inside] = []
        self._numbers = itertools.count()
        self._coming: list[tuple[float, int, int, bool]] = []  # when, in which order, who, whether as it was told

    def promise(self, answers: int, client: str | None = None) -> int:
        live = [Progress(one.tokens, one.limit) for one in self.inside]
        return self.retry.promise(answers, self.bound - self.admission.answers, live)

    def comes(self, client: int, at: float, told: bool = False) -> None:
        heapq.heappush(self._coming, (at, next(self._numbers), client, told))

    def run(self, until: int, again: Callable[[], float] | None = None, late: Callable[[], float] = lambda: 0.0) -> None:
        """Run until `until` answers are complete. With `again`, clients come back that long after an answer."""
        while self.answered < until:
            self._let_in(late)
            if self.inside:
                self._iterate(again)
            else:
                self.clock.jump(self._coming[0][0])

    def _let_in(self, late: Callable[[], float]) -> None:
        while self._coming and self._coming[0][0] <= self.clock.now():
            _, _, client, told = heapq.heappop(self._coming)
            self.obeyed += told
            try:
                ticket = self.admission.enter("", 1, 0)
            except ApiError as error:
                seconds = int(error.headers["Retry-After"])
                self.waits.append(seconds)
                self.comes(client, self.clock.now() + seconds + late(), told=True)
            else:
                self.kept += told
                self.retry.on_enter()
                self.inside.append(Inside(ticket, *self.length(self.random), client))

    def _iterate(self, again: Callable[[], float] | None) -> None:
        running = self.inside[: self.slots]
        prompts = sum(one.tokens == 0 for one in running)
        seconds = 0.02 + 0.0002 * len(running) + 0.02 * prompts
        self.clock.jump(self.clock.now() + seconds)
        self.retry.on_iteration(seconds, len(running), len(self.inside) - len(running))
        for one in running:
            one.tokens += 1
            if one.tokens == one.length:
                self.inside.remove(one)
                self.admission.leave(one.ticket)
                self.retry.on_end(Progress(one.tokens, one.limit))
                self.answered += 1
                if again is not None:
                    self.comes(one.client, self.clock.now() + again())


LENGTHS: dict[str, Callable[[random.Random], tuple[int, int]]] = {
    "equal, as long as they may be": lambda draw: (100, 100),
    "random, as long as they may be": lambda draw: (n := draw.randint(5, 300), n),
    "much shorter than they may be": lambda draw: (draw.randint(20, 120), 4096),
    "a few long ones": lambda draw: (400 if draw.random() < 0.1 else 20, 512),
}


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("clients", [40, 200, 600])
@pytest.mark.parametrize("late", [0.0, 1.0])
def test_a_burst_on_a_fresh_server(length: Callable[[random.Random], tuple[int, int]], clients: int, late: float) -> None:
    world = World(8, 32, length)
    for client in range(clients):
        world.comes(client, 0.001 * client)
    world.run(clients, late=lambda: world.random.uniform(0, late))
    assert world.obeyed >= 0.9 * (clients - 32)
    assert world.obeyed - world.kept <= max(1, 0.1 * world.obeyed)  # of eight who come, one is more than a tenth
    assert world.answered == clients


@pytest.mark.parametrize("length", LENGTHS.values(), ids=LENGTHS)
def test_clients_who_come_again_and_again(length: Callable[[random.Random], tuple[int, int]]) -> None:
    """More of them than there are places: those who come back find new ones who want the same place."""
    world = World(8, 32, length)
    for client in range(80):
        world.comes(client, 0.05 * client)
    world.run(1500, again=lambda: world.random.uniform(0.5, 4))
    assert world.obeyed > 200
    assert world.kept >= 0.9 * world.obeyed


def test_promises_are_not_much_longer_than_needed() -> None:
    """With nothing but the first iterations to go by: 200 answers of 2.2 s, eight at a time, take 60 s with their prompts."""
    world = World(8, 32, lambda draw: (100, 100))
    for client in range(200):
        world.comes(client, 0.0)
    world.run(200)
    assert world.clock.now() < 180


def settled() -> tuple[VirtualClock, RetryAfter, list[Progress]]:
    """One slot, a tenth of a second an iteration, and an answer inside with 100 tokens left."""
    clock = VirtualClock()
    retry = RetryAfter(1, clock.now)
    for _ in range(30):
        retry.on_iteration(0.1, 1, 1)
    return clock, retry, [Progress(0, 100)]


def test_a_place_is_promised_once() -> None:
    clock, retry, live = settled()
    assert [retry.promise(1, 0, live) for _ in range(3)] == [16, 31, 46]  # 1 s for prompts, and 15 for each answer
    retry.on_enter()  # a new client: no promise is due
    assert retry.promise(1, 0, live) == 61
    clock.jump(61 + LATE_S + 1)
    assert retry.promise(1, 0, live) == 16, "those whose clients did not come are forgotten"


def test_a_promise_that_is_kept_is_taken_off_and_one_that_is_broken_makes_later_ones_longer() -> None:
    clock, retry, live = settled()
    assert retry.promise(1, 0, live) == 16
    clock.jump(16.5)
    retry.on_enter()
    assert retry.promise(1, 0, live) == 16
    clock.jump(33)
    assert retry.promise(1, 0, live) == 24, "it was due, and is refused"


def test_a_promised_place_is_held_shortly_before_it_is_due_and_only_while_the_engine_is_busy() -> None:
    clock, retry, live = settled()
    assert retry.promise(1, 0, live) == 16
    assert retry.held(1) == 0
    clock.jump(15.5)
    assert (retry.held(1), retry.held(0)) == (1, 0)
    clock.jump(16.1)
    assert retry.held(1) == 0, "who comes now is the client that was told to"


def test_bounds_of_a_promise() -> None:
    assert RetryAfter(1).promise(1, 0, [Progress(0, 10**9)] * 1000) == MOST_S
    assert RetryAfter(1).promise(3, 5, []) == 2
    assert RetryAfter(4).promise(2, 0, [], others=4) == 2, "answers that are not in the engine yet, and nothing is known"


def test_a_client_at_its_own_limit_waits_for_its_own_answers() -> None:
    waits = RetryAfter(slots=8, clock=lambda: 0.0)
    for _ in range(30):
        waits.on_iteration(0.1, running=2, waiting=0)
    short, long = Progress(90, 100), Progress(10, 1000)
    soon = waits.own_room(1, 0, [(long, False), (short, True)])
    late = waits.own_room(1, 0, [(long, True), (short, False)])
    assert soon < 10 < late
    assert waits.own_room(2, 0, [(long, True), (short, True)]) == late, "both have to end"
    assert waits.own_room(2, 1, [(long, True), (short, True)]) == soon, "one place is free, and the short one ends first"
    assert waits.own_room(1, 0, [(long, False)]) == 1
    assert waits._due == [], "nothing was promised"
