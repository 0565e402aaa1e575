"""Generation stalls by long prompts (Sarathi-Serve, figures 1 and 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from orcinus.bench.measure import gaps
from orcinus.bench.offline import Engines
from orcinus.bench.record import Iteration, Repeat
from orcinus.bench.result import Result, Side
from orcinus.bench.runner import Bar
from orcinus.config import EngineConfig
from orcinus.papers.findings import Finding, Measurement, below
from orcinus.papers.measured.readings import over, reading, typical, whole
from orcinus.papers.measured.study import SEED, StudyPlan, points_of
from orcinus.papers.published_sarathi_serve import RATIOS_9
from orcinus.plots.figures import Curve, Figure, Panel
from orcinus.workload.lengths import Cycle
from orcinus.workload.processes import Closed
from orcinus.workload.workload import Workload

WHOLE, CHUNKED = ("prefill-first", "orca"), ("sarathi", "stall-free")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stalls:
    """`places` clients in a closed loop; every fourth prompt has `long` tokens.

    All places are always busy, so each long prompt stalls as many streams as possible. vLLM's prefill-first scheduling and
    Orca run it whole; SARATHI and stall-free batching split it, so that no iteration has more than `budget` tokens.
    """

    name: ClassVar[str] = "stalls"
    paper: ClassVar[str] = "Sarathi-Serve"
    figure: ClassVar[str] = "figures 1 and 7"
    expected: ClassVar[str] = (
        "Under prefill-first and Orca running answers wait for a whole prompt, so that the time between tokens has spikes; "
        "SARATHI and stall-free batching keep it flat."
    )
    here: ClassVar[str] = (
        "The weights of a small model lie in the cache of a CPU, so a decode iteration costs little more than its fixed "
        "part. A prompt takes as long as many of them, where on a GPU it takes 4 to 20: the spikes are higher than in the "
        "paper. For the same reason a chunk is not free."
    )
    workload: ClassVar[str] = "three short prompts with long answers, then one long prompt, again and again"
    arrivals: ClassVar[str] = "closed: a client for every place in the batch"

    places: int = 8
    short: int = 32  # tokens of most prompts
    answer: int = 64
    long: int = 1024
    last: int = 16  # tokens that answer a long prompt
    budget: int = 64
    requests: int = 64

    def configs(self, model: str | None) -> Mapping[str, EngineConfig]:
        policies = {
            "prefill-first": "prefill-first",
            "orca": "orca",
            "sarathi": f"sarathi:chunk_size={self.budget}",
            "stall-free": f"stall-free:token_budget={self.budget}",
        }
        longest = max(self.short + self.answer, self.long + self.last)
        return {
            name: EngineConfig(model=model, policy=policy, kv="paged", max_batch_size=self.places, max_model_len=longest)
            for name, policy in policies.items()
        }

    def prepare(self, engines: Engines, bar: Bar) -> StudyPlan:
        sizes = (*[(self.short, self.answer)] * 3, (self.long, self.last))
        workload = Workload(Closed(self.places), Cycle(sizes), self.requests, SEED)
        requests = engines.requests(workload)
        return StudyPlan(points_of(engines, workload, requests), requests)

    def read(self, result: Result) -> Finding:
        sides = {side.name: side for side in result.sides}
        p99 = {name: typical(side, reading("tbt.p99")) for name, side in sides.items()}
        greatest = {name: typical(side, longest_gap) for name, side in sides.items()}
        shapes = [
            below(f"{what} between tokens: {flat} below {spiky}", found[flat], found[spiky], "ms")
            for what, found in (("P99 time", p99), ("longest time", greatest))
            for flat in CHUNKED
            for spiky in WHOLE
        ]
        return Finding([*self._lines(sides), *shapes], figures=[_figure(result.sides)])

    def _lines(self, sides: Mapping[str, Side]) -> list[Measurement]:
        chunk, whole = RATIOS_9[32, 1024]
        with_prompt, with_chunk = (_beside(least) for least in (self.long, self.budget // 2))
        lines = [
            Measurement(
                "iteration with a whole prompt over decodes alone (orca)", f"{whole:g}", typical(sides["orca"], with_prompt)
            ),
            Measurement(
                "iteration with a chunk over decodes alone (stall-free)", f"{chunk:g}", typical(sides["stall-free"], with_chunk)
            ),
        ]
        for name, side in sides.items():
            lines += [
                Measurement(f"{name}: median time between tokens", "", typical(side, reading("tbt.p50")), "ms"),
                Measurement(f"{name}: P99", "", typical(side, reading("tbt.p99")), "ms"),
                Measurement(f"{name}: longest", "", typical(side, longest_gap), "ms"),
            ]
        base = sides["prefill-first"]
        throughput = reading("total_throughput")
        return lines + [
            Measurement(f"{name}: tokens a second, over prefill-first", "", over(side, base, throughput))
            for name, side in sides.items()
            if side is not base
        ]


def longest_gap(repeat: Repeat) -> float:
    """The longest time between two tokens of a request, in milliseconds."""
    return 1e3 * max(gap for request in repeat.requests for gap in gaps(request))


def _beside(least: int) -> Callable[[Repeat], float]:
    """Medians of decode-only iterations, and with `least` prompt tokens or more."""

    def ratio(repeat: Repeat) -> float:
        decodes = [each for each in repeat.iterations if each.decode_tokens]
        joined = [_seconds(each) for each in decodes if each.prefill_tokens >= least]
        alone = [_seconds(each) for each in decodes if not each.prefill_tokens]
        return median(joined) / median(alone) if joined and alone else float("nan")

    return ratio


def _seconds(iteration: Iteration) -> float:
    return iteration.returned - iteration.launched


def _figure(sides: tuple[Side, ...]) -> Figure:
    """The gap before every token over time, in the first run."""
    first = {side.name: whole(side)[0] for side in sides}
    top = 1.05 * max(longest_gap(repeat) for repeat in first.values())
    panels = [
        Panel(name, "time (s)", "time between tokens (ms)", [Curve(name, _over_time(repeat))], top=top)
        for name, repeat in first.items()
    ]
    return Figure("stalls", "Generation stalls: the time between tokens during one run", panels, ours="measured")


def _over_time(repeat: Repeat) -> list[tuple[float, float]]:
    """Pairs: second, and the longest gap that ended in it (ms)."""
    found: dict[float, float] = {}
    for request in repeat.requests:
        for at, gap in zip(request.times[1:], gaps(request), strict=True):
            found[at] = max(found.get(at, 0.0), 1e3 * gap)
    return sorted(found.items())
