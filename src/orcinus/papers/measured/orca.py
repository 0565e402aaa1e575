"""Latency against throughput (Orca, figure 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import ClassVar

from orcinus.bench.offline import Engines, EngineSystem
from orcinus.bench.record import Repeat
from orcinus.bench.result import Result, Side
from orcinus.bench.runner import Bar, Point
from orcinus.config import EngineConfig
from orcinus.papers.findings import Finding, Measurement, below
from orcinus.papers.measured.readings import of_rounds, over, per_token, quotients, reading, rounds, typical
from orcinus.papers.measured.study import SEED, StudyPlan, capacity
from orcinus.papers.published_orca import LOADED, MOST, Series
from orcinus.plots.figures import Curve, Figure, Panel
from orcinus.workload.lengths import Independent
from orcinus.workload.marginals import Uniform
from orcinus.workload.processes import AllAtOnce, Poisson
from orcinus.workload.workload import Workload

MODEL, LIMIT_MS, ALONE_MS = "175b", 190.0, 76.0  # the paper's headline: its limit, and a request alone
BLOCK = 16  # tokens
Points = Sequence[tuple[float, float]]  # (requests per second, median latency per token), by rising load


@dataclass(frozen=True, slots=True)
class OrcaSystem:
    """A system and its number of requests; slow systems get fewer."""

    name: str
    policy: str
    kv: str
    max_bs: int
    requests: int
    published: Series | None = None


SYSTEMS = (
    OrcaSystem("ft(1)", "fastertransformer", "max-length", 1, 16, ("fastertransformer", 1)),
    OrcaSystem("ft(8)", "fastertransformer", "max-length", 8, 24, ("fastertransformer", 8)),
    OrcaSystem("request-level(8)", "request-level", "max-length", 8, 32),
    OrcaSystem("orca(8)", "orca", "reservation", 8, 56, ("orca", 8)),
    OrcaSystem("orca(16)", "orca", "reservation", 16, 80, ("orca", 16)),
)
ALONE = "ft(1)"  # one request after the other: what everything is compared with
STATIC = (ALONE, "ft(8)", "request-level(8)")
AT_LIMIT = f"served at {LIMIT_MS / ALONE_MS:g} times the latency of one alone"
Curves = Mapping[str, Sequence[Side]]  # of each system, by rising load


@dataclass(frozen=True, slots=True, kw_only=True)
class OrcaCurves:
    """Random arrivals at half of a system's capacity, at 0.9, and above.

    The K/V memory holds eight requests of `longest` tokens. FasterTransformer reserves that much for each request; Orca
    reserves what a request asks for, so larger batches fit. The request-level baseline is kinder than the paper's: it runs
    whole prompts, where FasterTransformer runs all but the shortest one token by token.
    """

    name: ClassVar[str] = "orca"
    paper: ClassVar[str] = "Orca"
    figure: ClassVar[str] = "figure 10"
    expected: ClassVar[str] = (
        "At the same median latency per token, iteration-level scheduling has several times the throughput of batches that "
        "run to their end, and a larger max_bs raises it further."
    )
    here: ClassVar[str] = (
        "On the paper's GPUs another request in the batch is almost free; here it costs something, so batches gain less. A "
        "prompt of the paper's length would take as long as six decode iterations instead of one or two, so prompts are a "
        "quarter as long."
    )
    workload: ClassVar[str] = "prompts of 8 to 128 tokens and outputs of 1 to 128, uniform"
    arrivals: ClassVar[str] = "Poisson, at shares of each system's capacity"

    prompts: tuple[int, int] = (8, 128)
    outputs: tuple[int, int] = (1, 128)
    longest: int = 2048
    loads: tuple[float, ...] = (0.5, 0.9, 1.4)
    systems: tuple[OrcaSystem, ...] = SYSTEMS

    def configs(self, model: str | None) -> Mapping[str, EngineConfig]:
        blocks = 8 * self.longest // BLOCK
        return {
            each.name: EngineConfig(
                model=model,
                policy=each.policy,
                kv=each.kv,
                max_batch_size=each.max_bs,
                max_model_len=self.longest,
                block_size=BLOCK,
                num_blocks=blocks,
            )
            for each in self.systems
        }

    def prepare(self, engines: Engines, bar: Bar) -> StudyPlan:
        lengths = Independent(Uniform(*self.prompts), Uniform(*self.outputs))
        workload = Workload(AllAtOnce(), lengths, max(each.requests for each in self.systems), SEED)
        requests = engines.requests(workload)
        points, told = [], bar("finding rates", len(self.systems))
        for done, each in enumerate(self.systems, 1):
            system, own = EngineSystem(each.name, engines, requests), replace(workload, requests=each.requests)
            most = capacity(system, own)
            points += [_point(system, own, load, load * most) for load in self.loads]
            told(done)
        return StudyPlan(points, requests)

    def read(self, result: Result) -> Finding:
        curves = {each.name: _sides_of(result, each.name) for each in self.systems}
        sustained = {name: _sustained(sides, curves[ALONE][0]) for name, sides in curves.items()}
        at = {name: of_rounds(found) for name, found in sustained.items()}
        most = {name: typical(sides[-1], reading("request_throughput")) for name, sides in curves.items()}
        shapes = [below(f"{AT_LIMIT}: {name} below orca(8)", at[name], at["orca(8)"], "req/s") for name in STATIC]
        shapes.append(below("served at most: orca(8) below orca(16)", most["orca(8)"], most["orca(16)"], "req/s"))
        lines = [line for each in self.systems for line in _lines(each, curves, sustained)]
        return Finding([*lines, *shapes], figures=[_figure(self.systems, curves)])


def normalized_latency(repeat: Repeat) -> float:
    """The paper's metric: median milliseconds per token."""
    return median(per_token(repeat))


def throughput_at(points: Points, limit: float) -> float:
    """Requests per second at this latency, interpolated.

    At least the first point's, so a system that always exceeds the limit gets more credit than it deserves.
    """
    if points[0][1] > limit:
        return points[0][0]
    for (x, y), (further, higher) in pairwise(points):
        if higher > limit:
            return x + (further - x) * (limit - y) / (higher - y)
    return points[-1][0]


def _point(system: EngineSystem, workload: Workload, load: float, rate: float) -> Point:
    settings = system.settings | {"system": system.name, "load": load, "rate": rate}
    return Point(f"{system.name} at {load:g}", system, replace(workload, arrivals=Poisson(rate)), settings)


def _sides_of(result: Result, system: object) -> list[Side]:
    """A system's sides, by rising load."""
    return [side for side in result.sides if side.settings["system"] == system]


def _sustained(sides: Sequence[Side], alone: Side) -> dict[int, float]:
    """Requests per second at the latency limit, by round.

    The limit is a multiple of one request's latency in the same round.
    """
    limits = {number: ms * LIMIT_MS / ALONE_MS for number, ms in rounds(alone, normalized_latency).items()}
    throughput = [rounds(side, reading("request_throughput")) for side in sides]
    latency = [rounds(side, normalized_latency) for side in sides]
    whole = set(limits).intersection(*latency)
    return {
        number: throughput_at([(x[number], y[number]) for x, y in zip(throughput, latency, strict=True)], limits[number])
        for number in sorted(whole)
    }


def _lines(each: OrcaSystem, curves: Curves, sustained: Mapping[str, Mapping[int, float]]) -> list[Measurement]:
    """Measurements of one system against FasterTransformer with single requests."""
    sides = curves[each.name]
    lines = [
        Measurement(f"{each.name}: served at most", "", typical(sides[-1], reading("request_throughput")), "req/s"),
        Measurement(
            f"{each.name}: latency at {sides[0].settings['load']} of it", "", typical(sides[0], normalized_latency), "ms/token"
        ),
    ]
    if each.name == ALONE:
        return lines
    most, at = _published_gains(each.published)
    gained = over(sides[-1], curves[ALONE][-1], reading("request_throughput"))
    lines.insert(1, Measurement(f"{each.name}: served at most, over {ALONE}", most, gained))
    return [
        *lines,
        Measurement(f"{each.name}: {AT_LIMIT}, over {ALONE}", at, quotients(sustained[each.name], sustained[ALONE])),
    ]


def _published_gains(series: Series | None) -> tuple[str, str]:
    """Published gains over FasterTransformer: the highest, and at the limit."""
    if series is None:
        return "", ""
    base = ("fastertransformer", 1)
    at = throughput_at(_published(series), LIMIT_MS) / throughput_at(_published(base), LIMIT_MS)
    return f"{MOST[MODEL, series] / MOST[MODEL, base]:.2f}", f"{at:.2f}"


def _published(series: Series) -> list[tuple[float, float]]:
    """A published curve; that of batch size 16 continues that of 8."""
    own = LOADED[MODEL, series]
    shared = LOADED[MODEL, ("orca", 8)] if series == ("orca", 16) else ()
    return [*(point for point in shared if point[0] < own[0][0]), *own]


def _figure(systems: Sequence[OrcaSystem], curves: Curves) -> Figure:
    """The figure, with both axes relative to FasterTransformer with single requests."""
    alone = curves[ALONE]
    most = typical(alone[-1], reading("request_throughput")).median
    ms = typical(alone[0], normalized_latency).median
    drawn = []
    for each in systems:
        if each.published:
            base = MOST[MODEL, ("fastertransformer", 1)]
            drawn.append(Curve(each.name, [(x / base, y / ALONE_MS) for x, y in _published(each.published)], published=True))
        drawn.append(Curve(each.name, [(x / most, y / ms) for x, y in map(_median, curves[each.name])]))
    axes = f"requests/s, over what {ALONE} serves at most", f"median latency per token, over {ALONE}'s"
    panel = Panel("published: GPT 175B on 16 A100s", *axes, drawn, log_x=True, top=12.0)
    return Figure("orca", "Orca, figure 10: latency against throughput", [panel], ours="measured")


def _median(side: Side) -> tuple[float, float]:
    return typical(side, reading("request_throughput")).median, typical(side, normalized_latency).median
