"""An engine beyond its capacity, with promises and without.

    python benchmarks/overload.py [--loads 0.5,1,1.5,2,4] [--seconds 120] [--obey 0.5] [--places 64] [--seeds 3]

A simulated engine on a virtual clock, so that a run is exact and takes seconds. Requests come as a Poisson process; every one
has the same SLO. The capacity is the throughput of the same requests all at once. A refused request comes again, with the
probability `--obey`, exactly when Retry-After says; it counts once, however often it comes. Goodput counts requests
within their SLO per second of arrivals.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from dataclasses import dataclass, field, replace

from orcinus.core.batch import Finished
from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.promises import MeasuredPromise, Promises
from orcinus.core.request import Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import Scheduler
from orcinus.core.slo import SLO
from orcinus.observe.latency import percentile
from orcinus.sim.clock import VirtualClock
from orcinus.sim.config import SimulationConfig
from orcinus.sim.executor import END, SimulatedExecutor
from orcinus.sim.simulate import set_up

WARM_S = 20.0  # seconds before goodput counts
LIMIT = 1024  # max_tokens of every request: the engine cannot know the lengths of answers


@dataclass
class Coming:
    """A request of the workload."""

    number: int
    prompt: int
    output: int
    told: bool = False  # it comes as it was told
    tries: int = 0


@dataclass
class Seen:
    """What the clients saw."""

    offered: int = 0
    accepted: int = 0
    refusals: int = 0
    obeyed: int = 0
    obeyed_accepted: int = 0
    good: int = 0
    good_in_time: int = 0  # of those that arrived while the load was steady
    served: int = 0
    ttft: list[float] = field(default_factory=list)
    tbt: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


@dataclass
class World:
    """An engine, its door and its clients."""

    config: SimulationConfig
    slo: SLO
    obey: float
    door: bool
    seed: int
    until: float = 0.0  # the last arrivals
    seen: Seen = field(default_factory=Seen)

    def __post_init__(self) -> None:
        machine, config = set_up(self.config).machine, self.config
        self.clock, self.random = VirtualClock(), random.Random(self.seed)
        kv = KV_MANAGERS[config.kv](machine.num_blocks, machine.block_size, machine.limits)
        self.scheduler = Scheduler(make_policy(config.policy), kv, machine.limits, make_order(config.order))
        self.executor = SimulatedExecutor(machine.cost, self.clock)
        self.promises = Promises(self.scheduler)
        self.engine = Engine(self.scheduler, self.executor, self.clock, [self.promises])
        self.live: dict[str, MeasuredPromise] = {}
        self._ids, self._coming = itertools.count(), list[tuple[float, int, Coming]]()

    def comes(self, at: float, one: Coming) -> None:
        heapq.heappush(self._coming, (at, next(self._ids), one))

    def run(self) -> None:
        """Until the last request has ended."""
        while self._coming or self.executor.next_end is not None:
            end = self.executor.next_end
            if self._coming and (end is None or self._coming[0][0] <= end):
                at, _, one = heapq.heappop(self._coming)
                self.clock.jump(max(at, self.clock.now()))
                self._arrives(one)
            else:
                for event in self.engine.settle():
                    self._hear(event)
            self.engine.dispatch()

    def _arrives(self, one: Coming) -> None:
        now, seen, told = self.clock.now(), self.seen, one.told
        request_id = f"{one.number}-{one.tries}"
        prompt = (2 + one.number,) * one.prompt
        params = SamplingParams(max_tokens=LIMIT, seed=0, stop_token_ids=(END,))
        request = Request(request_id, prompt, params, now, RequestContext(slo=self.slo if self.door else None))
        seen.offered += one.tries == 0
        one.tries += 1
        if self.door:
            verdict = self.promises.ask(request, now)
            seen.obeyed += told
            if not verdict.accepted:
                seen.refusals += 1
                if self.random.random() < self.obey:
                    self.comes(now + verdict.retry_after, replace(one, told=True))
                return
            seen.obeyed_accepted += told
        seen.accepted += 1
        self.executor.answers[request_id] = one.output
        self.live[request_id] = MeasuredPromise(self.slo, now)
        for event in self.engine.submit(request):
            self._hear(event)

    def _hear(self, event: object) -> None:
        live = self.live[event.request_id]  # type: ignore[attr-defined]
        if not isinstance(event, Finished):
            live.add(event.at)  # type: ignore[attr-defined]
            return
        del self.live[event.request_id]
        found = live.latencies(event.at)
        self.seen.served += 1
        self.seen.ends.append(event.at)
        self.seen.good += live.kept(event.at)
        self.seen.good_in_time += live.kept(event.at) and WARM_S <= live.arrival < self.until
        self.seen.ttft.append(found["ttft"])
        self.seen.tbt.append(found["tbt"])


def lengths(random_: random.Random) -> tuple[int, int]:
    """Prompt and output tokens of a request: log-normal, medians of 300 and 150."""
    return min(1000, int(random_.lognormvariate(5.7, 0.8)) + 1), min(LIMIT - 1, int(random_.lognormvariate(5.0, 0.8)) + 1)


def capacity(config: SimulationConfig, slo: SLO) -> float:
    """Requests that end per second, while others always wait."""
    world = World(config, slo, 0.0, False, 0)
    for number in range(2000):
        world.comes(0.0, Coming(number, *lengths(world.random)))
    world.run()
    ends = sorted(world.seen.ends)[200:1600]
    return (len(ends) - 1) / (ends[-1] - ends[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", default="0.5,1,1.5,2,4")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--obey", type=float, default=0.5)
    parser.add_argument("--ttft", type=float, default=1.0)
    parser.add_argument("--tbt", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--model", default="llama-7b")
    parser.add_argument("--policy", default="stall-free:token_budget=512")
    parser.add_argument("--places", type=int, default=64, help="most requests in one iteration")
    parser.add_argument("--no-door", action="store_true")
    asked = parser.parse_args()
    config = SimulationConfig(model=asked.model, policy=asked.policy, kv="paged", max_batch_size=asked.places)
    slo = SLO({"ttft": asked.ttft, "tbt": asked.tbt})
    most = capacity(config, slo)
    print(f"capacity {most:.2f} requests/s; SLO {dict(slo.bounds)}")
    print(
        "| load | goodput / capacity | TTFT p99 | TBT p99 | kept | refused | obedient accepted |\n|---|---|---|---|---|---|---|"
    )
    for load in map(float, asked.loads.split(",")):
        for seed in range(asked.seeds):
            print(row(World(config, slo, asked.obey, not asked.no_door, seed), load, load * most, asked.seconds), flush=True)


def row(world: World, load: float, rate: float, seconds: float) -> str:
    at, number, world.until = 0.0, 0, seconds
    while (at := at + world.random.expovariate(rate)) < seconds:
        world.comes(at, Coming(number, *lengths(world.random)))
        number += 1
    world.run()
    seen = world.seen
    goodput = seen.good_in_time / (seconds - WARM_S) / (rate / load)
    obedient = f"{seen.obeyed_accepted}/{seen.obeyed}" if seen.obeyed else "–"
    return (
        f"| {load:g} | {goodput:.3f} | {percentile(sorted(seen.ttft), 99):.3f} | {percentile(sorted(seen.tbt), 99):.3f} "
        f"| {seen.good / seen.served:.4f} | {1 - seen.accepted / seen.offered:.3f} | {obedient} |"
    )


if __name__ == "__main__":
    main()
