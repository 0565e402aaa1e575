"""Two results side by side: which is better, or why nobody can tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

from orcinus.bench.doubts import doubts
from orcinus.bench.measure import HIGHER_IS_BETTER
from orcinus.bench.result import Result, Work
from orcinus.bench.summary import Summary, summarize
from orcinus.errors import ConfigError
from orcinus.observe.interval import Interval

SURE = 0.9  # the least level of an interval that says something: that of five repeats
METRICS = (
    *("request_throughput", "output_throughput", "total_throughput", "goodput"),
    *(f"{name}.{part}" for name in ("ttft", "tbt", "tpot", "e2e") for part in ("p50", "p99")),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One metric of two sides. `better` is "a" or "b"; None if it cannot be told, and then `why` says the reason."""

    metric: str
    a: Interval
    b: Interval
    better: str | None
    why: str

    @property
    def ratio(self) -> float | None:
        """b over a, of the medians."""
        return self.b.median / self.a.median if self.a.median else None


def compare(a: Result, b: Result, a_side: str | None = None, b_side: str | None = None) -> list[Verdict]:
    """The metrics that both have. Raises `ConfigError` if the work differs, or if one of them must not be believed.

    A result with several sides needs the name of the one that is meant.
    """
    different = differences(a.work, b.work)
    if different:
        raise ConfigError(f"these results cannot be ranked, because the work differs: {'; '.join(different)}")
    one, other = _side(a, a_side, "first"), _side(b, b_side, "second")
    shared = [name for name in METRICS if name in one.intervals and name in other.intervals]
    if a.objectives != b.objectives:
        shared = [name for name in shared if name != "goodput"]
    return [_verdict(name, one.intervals[name], other.intervals[name]) for name in shared]


def differences(a: Work, b: Work) -> list[str]:
    """In what the work of two results differs, in words."""
    pairs = ((field.name, getattr(a, field.name), getattr(b, field.name)) for field in fields(Work))
    return [f"{name} {one or 'none'} and {other or 'none'}" for name, one, other in pairs if one != other]


def _side(result: Result, name: str | None, which: str) -> Summary:
    names = [side.name for side in result.sides]
    if name is None and len(names) > 1:
        raise ConfigError(f"the {which} result has several sides: say which one to compare: {'; '.join(names)}")
    if name is not None and name not in names:
        raise ConfigError(f"the {which} result has no side {name!r}: choose {'; '.join(names)}")
    objectives = {} if result.kind == "capacity" else result.objectives  # a capacity's are promises, not of each request
    found = next(summary for summary in summarize(result.sides, objectives) if name in (None, summary.name))
    if not found.intervals:
        why = " ".join(each.what for each in doubts(result)) or "it is empty"
        raise ConfigError(f"the {which} result has nothing that may be believed: {why}")
    return found


def _verdict(metric: str, a: Interval, b: Interval) -> Verdict:
    if metric.startswith(("tbt", "tpot")) and 0 in (a.median, b.median):
        return Verdict(metric, a, b, None, "all tokens came at once, which is not fast")
    if min(a.level, b.level) < SURE:
        return Verdict(metric, a, b, None, "too few repeats: measure both at least 5 times")
    if a.overlaps(b):
        return Verdict(metric, a, b, None, "the intervals overlap")
    greater = "a" if a.median > b.median else "b"
    smaller = "b" if greater == "a" else "a"
    return Verdict(metric, a, b, greater if metric in HIGHER_IS_BETTER else smaller, "")


def overall(verdicts: Sequence[Verdict]) -> str:
    """One sentence."""
    ranked = [verdict for verdict in verdicts if verdict.better]
    if not ranked:
        return "Nobody can tell which is better."
    wins = {side: sum(verdict.better == side for verdict in ranked) for side in ("a", "b")}
    return f"Better: a in {wins['a']}, b in {wins['b']}, undecided in {len(verdicts) - len(ranked)} of {len(verdicts)} metrics."
