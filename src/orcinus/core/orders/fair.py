"""Equal service for every client (virtual token counter).

From "Fairness in Serving Large Language Models", OSDI 2024.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice

from orcinus.core.orders.fcfs import FCFS
from orcinus.core.request import Request
from orcinus.errors import ConfigError

MOST_COST = 1e6  # per token: larger sums would lose small addends to rounding
REMEMBERED = 1000  # absent clients kept, at least
_Turn = tuple[float, float, int, int, tuple[Request, ...]]  # counter; arrival, number, place of a request; its client's queue


@dataclass
class Fair:
    """The least served client first; each client's own requests by arrival.

    A counter per client adds up its service: `prompt_cost` for every prompt token, at admission, and `output_cost` for every
    generated one. When a client returns to the queue, its counter is raised to the lowest in the queue, so that idling earns
    no credit. Between two clients who both always have requests waiting, service differs by at most 2 U, where U is the
    cost of the dearest prompt and of all that the running requests can generate (compare theorem 4.4 of the paper). So
    the backlog of one client delays no other.
    """

    prompt_cost: float = 1.0
    output_cost: float = 2.0

    def __post_init__(self) -> None:
        if not all(0 <= cost <= MOST_COST for cost in (self.prompt_cost, self.output_cost)):
            raise ConfigError(f"the costs of the order 'fair' must be from 0 to {MOST_COST:g}")
        self.counters: defaultdict[str, float] = defaultdict(float)
        self._queues: dict[str, FCFS] = {}
        self._left = ""  # the client whose queue became empty last

    def add(self, request: Request) -> None:
        queue = self._queues.get(request.context.client)
        if queue is None:
            others = self._queues or ([self._left] if self._left in self.counters else [])
            lowest = min((self.counters[client] for client in others), default=0)
            self.counters[request.context.client] = max(
                self.counters.pop(request.context.client, 0.0), lowest
            )  # it is the latest now
            queue = self._queues[request.context.client] = FCFS()
            self._forget()
        queue.add(request)

    def _forget(self) -> None:
        """Now and then drop the clients absent longest, to bound memory."""
        if len(self.counters) > 2 * REMEMBERED + len(self._queues):
            latest = islice(reversed(self.counters), REMEMBERED)
            kept = {*latest, *self._queues, self._left}
            self.counters = defaultdict(float, {client: count for client, count in self.counters.items() if client in kept})

    def remove(self, request: Request) -> None:
        queue = self._queues[request.context.client]
        queue.remove(request)
        if not queue:
            del self._queues[request.context.client]
            self._left = request.context.client

    def rank(self, request: Request) -> float:
        """The service that its client has received so far."""
        return self.counters.get(request.context.client, 0.0)

    def admit(self, request: Request) -> None:
        if not request.preemptions:  # a recomputed prompt is not charged twice
            self.counters[request.context.client] += self._prompt(request)
        self.remove(request)

    def generated(self, request: Request, tokens: int) -> None:
        self.counters[request.context.client] += tokens * self.output_cost

    def first(self, count: int) -> tuple[Request, ...]:
        """The requests in the order in which they would be admitted now."""
        if count < 1:
            return ()
        turns = [self._turn(self.counters[client], 0, queue.first(count)) for client, queue in self._queues.items()]
        heapify(turns)
        found: list[Request] = []
        while turns and len(found) < count:
            counter, _, _, place, queue = heappop(turns)
            found.append(queue[place])
            if place + 1 < len(queue):
                heappush(turns, self._turn(counter + self._prompt(queue[place]), place + 1, queue))
        return tuple(found)

    @staticmethod
    def _turn(counter: float, place: int, queue: tuple[Request, ...]) -> _Turn:
        return counter, queue[place].arrival, queue[place].number, place, queue

    def all(self) -> list[Request]:
        return [request for queue in self._queues.values() for request in queue.all()]

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def _prompt(self, request: Request) -> float:
        return len(request.prompt) * self.prompt_cost
