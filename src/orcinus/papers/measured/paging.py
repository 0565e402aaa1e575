"""Reservation against paging (vLLM, figures 2 and 13)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

from orcinus.bench.offline import Engines
from orcinus.bench.record import Repeat
from orcinus.bench.result import Result, Side
from orcinus.bench.runner import Bar, Point
from orcinus.config import EngineConfig
from orcinus.observe.latency import mean
from orcinus.papers.findings import Finding, Measurement, Ordering, below
from orcinus.papers.measured.readings import Reading, over, per_token, reading, typical, whole
from orcinus.papers.measured.study import SEED, StudyPlan, capacity, points_of
from orcinus.papers.published_sarathi_serve import BATCHED_13, KV_PLACES, SUSTAINED_OVER
from orcinus.plots.figures import Curve, Figure, Panel
from orcinus.workload.lengths import Independent
from orcinus.workload.marginals import Geometric
from orcinus.workload.processes import AllAtOnce, Poisson
from orcinus.workload.workload import Workload

SYSTEMS = {"max-length": "Orca (Max)", "reservation": "Orca (Oracle)", "paged": "vLLM"}  # K/V managers, and names in the figure
AT_ONCE, ARRIVING = "all at once", "arriving"
BLOCK = 16  # tokens
LONGEST_THERE = 2048  # tokens that Orca (Max) reserves there


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """vLLM's ShareGPT runs with OPT-13B, at a quarter of lengths and memory.

    So 7.67 of the longest requests fit, as in the paper. All three systems schedule as Orca does; they differ in the memory
    that a request is given: room for the longest request, for what it asks for, or for what it has. First all requests
    arrive at once, then at `load` times the rate that paging serves.
    """

    name: ClassVar[str] = "paging"
    paper: ClassVar[str] = "vLLM"
    figure: ClassVar[str] = "figures 2, 12 and 13"
    expected: ClassVar[str] = (
        "Reserving the longest request lets the fewest requests into the batch, reserving the right length more, paging "
        "the most, and throughput follows."
    )
    here: ClassVar[str] = (
        "A larger batch gains less on a CPU, so throughput grows less than the batch. Reservations take whole blocks, not "
        "powers of two of contiguous memory as the paper's buddy allocator does, so that Orca (Oracle) does better here. The "
        "paper's Orca (Pow2) is left out: requests are told exactly how long their answers are."
    )
    workload: ClassVar[str] = "ShareGPT as vLLM describes it, every length divided by four"
    arrivals: ClassVar[str] = "all at once, then Poisson at a share of what paging serves"

    prompt: float = 161.31 / 4  # mean tokens, geometric: the paper tells means alone
    output: float = 337.99 / 4
    longest: int = LONGEST_THERE // 4
    places: int = 48  # more than fit
    requests: int = 128
    load: float = 1.0

    def configs(self, model: str | None) -> Mapping[str, EngineConfig]:
        return {
            kv: EngineConfig(
                model=model,
                policy="orca",
                kv=kv,
                max_batch_size=self.places,
                max_model_len=self.longest,
                block_size=BLOCK,
                num_blocks=KV_PLACES * self.longest // LONGEST_THERE // BLOCK,
            )
            for kv in SYSTEMS
        }

    def prepare(self, engines: Engines, bar: Bar) -> StudyPlan:
        lengths = Independent(Geometric(self.prompt), Geometric(self.output))
        workload = Workload(AllAtOnce(), lengths, self.requests, SEED, max_total=self.longest)
        requests = engines.requests(workload)
        at_once = points_of(engines, workload, requests)
        told = bar("finding the rate", 1)
        rate = self.load * capacity(at_once[-1].system, workload)
        told(1)
        coming = points_of(engines, replace(workload, arrivals=Poisson(rate)), requests)
        return StudyPlan(
            [*(_named(each, AT_ONCE) for each in at_once), *(_named(each, ARRIVING, rate) for each in coming)], requests
        )

    def read(self, result: Result) -> Finding:
        sides = {side.name: side for side in result.sides}
        full, coming = ({kv: sides[f"{kv}, {when}"] for kv in SYSTEMS} for when in (AT_ONCE, ARRIVING))
        shapes = [
            *_order("requests in the batch", full, batched),
            *_order("output tokens/s", full, reading("output_throughput")),
            *_order("mean latency per token at the same rate", dict(reversed(coming.items())), normalized_latency, "ms"),
        ]
        lines = [line for kv in SYSTEMS for line in _lines(kv, full, coming)]
        return Finding([*lines, *shapes], figures=[_figure(full, coming)])


def batched(repeat: Repeat) -> float:
    """Mean batch size over the iterations in which requests wait."""
    crowded = [each.requests for each in repeat.iterations if each.waiting]
    return mean(crowded) if crowded else float("nan")


def normalized_latency(repeat: Repeat) -> float:
    """The paper's metric (vLLM, 6.1): mean milliseconds per token."""
    return mean(per_token(repeat))


def _order(what: str, sides: Mapping[str, Side], read: Reading, unit: str = "") -> list[Ordering]:
    """Orderings: each number lies below the next."""
    found = {kv: typical(side, read) for kv, side in sides.items()}
    return [below(f"{what}: {less} below {more}", found[less], found[more], unit) for less, more in pairwise(found)]


def _lines(kv: str, full: Mapping[str, Side], coming: Mapping[str, Side]) -> list[Measurement]:
    """One manager's measurements, and paging's gain over it."""
    lines = [
        Measurement(f"{kv}: requests in the batch", f"{BATCHED_13[SYSTEMS[kv]]:.2f}", typical(full[kv], batched)),
        Measurement(f"{kv}: preemptions", "", typical(full[kv], reading("preemptions"))),
        Measurement(f"{kv}: throughput", "", typical(full[kv], reading("output_throughput")), "tokens/s"),
        Measurement(f"{kv}: mean latency when they arrive", "", typical(coming[kv], normalized_latency), "ms/token"),
    ]
    if kv in ("max-length", "reservation"):
        gained = over(full["paged"], full[kv], reading("output_throughput"))
        lines.append(Measurement(f"throughput of paged over {kv}", SUSTAINED_OVER[SYSTEMS[kv]], gained))
    return lines


def _figure(full: Mapping[str, Side], coming: Mapping[str, Side]) -> Figure:
    """Requests that fit, as bars, and batch size over time."""
    there = [(float(number), BATCHED_13[name]) for number, name in enumerate(SYSTEMS.values(), 1)]
    ours = [(float(number), typical(side, batched).median) for number, side in enumerate(full.values(), 1)]
    fit = [Curve("requests", there, published=True), Curve("requests", ours)]
    x = "1: longest reserved   2: right length reserved   3: paged"
    bars = Panel("requests that fit", x, "requests in the batch", fit, bars=True)
    lines = [Curve(kv, _batch_over_time(side)) for kv, side in coming.items()]
    return Figure(
        "paging",
        "vLLM, figure 13: reservation against paging",
        [bars, Panel("the batch over time, at the same rate", "time (s)", "requests in the batch", lines)],
        ours="measured",
    )


def _batch_over_time(side: Side) -> list[tuple[float, float]]:
    """Batch size over time, from the first valid run."""
    return [(each.returned, float(each.requests)) for each in whole(side)[0].iterations]


def _named(point: Point, when: str, rate: float | None = None) -> Point:
    return replace(point, name=f"{point.name}, {when}", settings={**point.settings, "arrivals": when, "rate": rate})
