"""The event loop: requests arrive at a router, batches end on replicas."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from heapq import heappop, heappush

from orcinus.core.batch import Finished
from orcinus.core.component_spec import make
from orcinus.routing.router import ROUTERS, Router
from orcinus.sim.clock import VirtualClock
from orcinus.sim.replica import Replica
from orcinus.workload.source import Source

EVERY = 32  # events between two checks whether it is over


class OracleLeastWork:
    """The replica with the fewest outstanding tokens, prompts and answers together.

    It is an oracle: it knows the lengths of answers, as no server does.
    """

    def choose(self, prefix: Hashable | None, loads: Sequence[Replica]) -> int:
        return min(range(len(loads)), key=lambda index: loads[index].work)


SIMULATED_ROUTERS: dict[str, type[Router[Replica]]] = {**ROUTERS, "oracle-least-work": OracleLeastWork}


def make_router(spelled: str) -> Router[Replica]:
    """The router spelled `name` or `name:option=value`. Raises `ConfigError`."""
    return make("router", SIMULATED_ROUTERS, spelled)


class Simulation:
    """Replicas behind a router, on one clock.

    Its memory grows with live requests only.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        router: Router[Replica],
        clock: VirtualClock,
        watch: Callable[[int], None] | None = None,
        over: Callable[[], bool] | None = None,
    ) -> None:
        self.replicas, self.router, self.clock = replicas, router, clock
        self.watch = watch  # called with the number of ended requests at each ending
        self.over = over  # asked now and then whether to end early
        self.ended_early = False
        self.submitted = self.ended = 0
        self._turns = 0
        self._ends: list[tuple[float, int]] = []  # heap of (end of the oldest batch, replica); stale entries are skipped

    def run(self, source: Source) -> None:
        """Serve every request, unless `over` ends it. Raises `Stalled` as engines do."""
        while not self._over():
            end, coming = self._next_end(), source.next
            if coming is not None and (end is None or coming.at <= end):
                self._arrive(source, max(coming.at, self.clock.now()))
            elif end is not None:
                _, index = heappop(self._ends)
                self._hear(source, self.replicas[index].settle())
                self._note(index)
            else:
                break
        for replica in self.replicas:
            if not (replica.engine.idle or self.ended_early):
                replica.engine.step()  # raises `Stalled`, which says why
            replica.engine.close()

    def _over(self) -> bool:
        self._turns += 1
        if self.over is not None and self._turns % EVERY == 0:
            self.ended_early = self.over()
        return self.ended_early

    def _arrive(self, source: Source, now: float) -> None:
        """Submit all requests of this moment, then let their replicas decide."""
        self.clock.jump(now)
        visited: set[int] = set()
        while (arrival := source.next) is not None and arrival.at <= now:
            request_id = str(self.submitted)
            self.submitted += 1
            source.take(request_id)
            replica = self.replicas[self.router.choose(arrival.beginning, self.replicas)]
            visited.add(replica.index)
            self._hear(source, replica.submit(request_id, arrival))
        for index in visited:
            self.replicas[index].dispatch()
            self._note(index)

    def _hear(self, source: Source, endings: Sequence[Finished]) -> None:
        for ending in endings:
            self.ended += 1
            source.ended(ending.request_id, ending.at)
            if self.watch is not None:
                self.watch(self.ended)

    def _note(self, index: int) -> None:
        end = self.replicas[index].next_end
        if end is not None:
            heappush(self._ends, (end, index))

    def _next_end(self) -> float | None:
        """When the next batch ends on any replica."""
        while self._ends:
            end, index = self._ends[0]
            if end == self.replicas[index].next_end:
                return end
            heappop(self._ends)
        return None
