"""Chunk size and P:D ratio (SARATHI, figure 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from orcinus.bench.offline import Engines
from orcinus.bench.record import Repeat
from orcinus.bench.requests import BenchRequest
from orcinus.bench.result import Result
from orcinus.bench.runner import Bar, Point
from orcinus.config import EngineConfig
from orcinus.observe.interval import Interval
from orcinus.papers.findings import Finding, Measurement, Ordering, below
from orcinus.papers.measured.readings import exactly, of_rounds, quotients, rounds
from orcinus.papers.measured.study import SEED, StudyPlan, points_of
from orcinus.papers.published_sarathi import BESIDE, PEAKS, RATIOS
from orcinus.papers.simulated.sarathi_sweep import request
from orcinus.plots.figures import Curve, Figure, Panel
from orcinus.workload.lengths import Cycle
from orcinus.workload.processes import AllAtOnce
from orcinus.workload.workload import Workload

BASELINE = "prefill, then decode"
LENGTH = 1024  # tokens of a request, of the published curves that are shown
Gains = Mapping[tuple[int, float], Mapping[int, float]]  # (chunk, P:D) -> by round


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunks:
    """Equal requests of `length` tokens, at P:D ratios from low to high.

    `places` requests are in the batch. The baseline runs a whole batch of prompts and then its decodes. SARATHI puts one
    chunk into every iteration, together with the decodes of the other requests. At P:D = C / (B - 1) - 1 prompts and
    decodes end together, so there the gain is greatest. There are three batches: the engine fills during the first one and
    empties during the last one, so only the middle one counts.
    """

    name: ClassVar[str] = "chunks"
    paper: ClassVar[str] = "SARATHI"
    figure: ClassVar[str] = "figure 9"
    expected: ClassVar[str] = (
        "Throughput over the baseline rises with P:D up to about C / (B - 1) and falls beyond it, so that larger chunks have "
        "their peaks at higher P:D."
    )
    here: ClassVar[str] = (
        "On the paper's GPU a decode iteration waits for the weights, and a chunk can be computed meanwhile. Here the weights "
        "of a small model lie in the cache, and the fixed cost of an iteration is software, which waits for nothing. So "
        "piggybacked decodes save little, and gains are small, if they exceed the noise at all."
    )
    workload: ClassVar[str] = "requests all alike, at several P:D ratios"
    arrivals: ClassVar[str] = "all at once"

    places: int = 18  # as in the paper, for requests of 1024 tokens
    length: int = 512
    chunks: tuple[int, ...] = (128, 256)
    ratios: tuple[int, ...] = (1, 6, 14, 100)

    def configs(self, model: str | None) -> Mapping[str, EngineConfig]:
        policies = {BASELINE: "request-level"} | {f"C = {chunk}": f"sarathi:chunk_size={chunk}" for chunk in self.chunks}
        return {
            name: EngineConfig(
                model=model, policy=policy, kv="reservation", max_batch_size=self.places, max_model_len=self.length + 1
            )
            for name, policy in policies.items()
        }

    def prepare(self, engines: Engines, bar: Bar) -> StudyPlan:
        points: list[Point] = []
        every: list[BenchRequest] = []
        for ratio in self.ratios:
            workload = Workload(AllAtOnce(), Cycle((request(self.length, ratio),)), 3 * self.places, SEED)
            requests = engines.requests(workload)
            points += [_at(point, ratio) for point in points_of(engines, workload, requests)]
            every += requests
        return StudyPlan(points, every)

    def balance(self, chunk: int) -> float:
        """The P:D ratio at which prompts and decodes end together (SARATHI, 4.3)."""
        return (chunk - (self.places - 1)) / (self.places - 1)

    def nearest(self, chunk: int) -> int:
        """The measured P:D ratio nearest to the balance, by quotient."""
        best = self.balance(chunk)
        return min(self.ratios, key=lambda ratio: max(ratio / best, best / ratio))

    def read(self, result: Result) -> Finding:
        gains = self._gains(result)
        found = {key: of_rounds(by_round) for key, by_round in gains.items()}
        shapes = [shape for chunk in self.chunks for shape in self._rises_and_falls(chunk, found)]
        small, large = self.chunks[0], self.chunks[-1]
        left, right = (quotients(gains[large, at], gains[small, at]) for at in map(self.nearest, (small, large)))
        where = f"at P:D {self.nearest(small)} below at {self.nearest(large)}"
        shapes.append(below(f"C = {large} over C = {small}: {where}", left, right))
        lines = [self._line(chunk, ratio, found) for chunk in self.chunks for ratio in self.ratios]
        return Finding([*lines, *shapes], figures=[self._figure(found)])

    def _gains(self, result: Result) -> Gains:
        """Throughput over the baseline's, round by round."""
        speed = {side.name: rounds(side, requests_per_second) for side in result.sides}
        return {
            (chunk, ratio): ratio_of(speed[_name(f"C = {chunk}", ratio)], speed[_name(BASELINE, ratio)])
            for chunk in self.chunks
            for ratio in self.ratios
        }

    def _rises_and_falls(self, chunk: int, found: Mapping[tuple[int, float], Interval]) -> list[Ordering]:
        best, first, last = self.nearest(chunk), self.ratios[0], self.ratios[-1]
        there = found[chunk, best]
        return [
            below(f"C = {chunk}: the baseline below P:D {best}", exactly(1.0), there),
            below(f"C = {chunk} rises: at P:D {first} below {best}", found[chunk, first], there),
            below(f"C = {chunk} falls: at P:D {last} below {best}", found[chunk, last], there),
        ]

    def _line(self, chunk: int, ratio: int, found: Mapping[tuple[int, float], Interval]) -> Measurement:
        best = ratio == self.nearest(chunk)
        what = f"C = {chunk}, P:D {ratio}" + (f", balanced at {self.balance(chunk):.1f}" if best else "")
        peak = PEAKS.get((LENGTH, chunk))
        return Measurement(what, f"{peak[0]:.3f}, at {peak[1]}" if best and peak else "", found[chunk, ratio])

    def _figure(self, found: Mapping[tuple[int, float], Interval]) -> Figure:
        curves = []
        for chunk in self.chunks:
            if (LENGTH, chunk) in PEAKS:
                curves.append(Curve(f"C = {chunk}", _published(chunk), published=True))
            curves.append(Curve(f"C = {chunk}", [(float(ratio), found[chunk, ratio].median) for ratio in self.ratios]))
        title = f"B = {self.places}; published: LLaMA-13B on an A6000"
        panel = Panel(title, "P:D", "throughput over the baseline", curves, log_x=True)
        return Figure("chunks", "SARATHI, figure 9: chunk size and P:D ratio", [panel], ours="measured")


def requests_per_second(repeat: Repeat) -> float:
    """Throughput of the middle of three batches, from requests' ends."""
    ends = sorted(each.ended for each in repeat.requests)
    batch = len(ends) // 3
    return batch / (ends[2 * batch - 1] - ends[batch - 1])


def ratio_of(found: Mapping[int, float], base: Mapping[int, float]) -> dict[int, float]:
    """The quotient of two numbers in every round that has both."""
    return {number: found[number] / base[number] for number in sorted(found.keys() & base.keys())}


def _published(chunk: int) -> list[tuple[float, float]]:
    """A published curve, as far as it was read from the figure."""
    gain, best = PEAKS[LENGTH, chunk]
    return sorted([(float(best), gain), *zip(map(float, RATIOS), BESIDE[LENGTH, chunk], strict=True)])


def _name(system: str, ratio: int) -> str:
    return f"{system}, P:D {ratio}"


def _at(point: Point, ratio: int) -> Point:
    return Point(_name(point.name, ratio), point.system, point.workload, {**point.settings, "ratio": ratio})
