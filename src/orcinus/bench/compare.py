"""Compares two results: which is better, or why that is unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from orcinus.bench.ranking import Verdict, rank
from orcinus.bench.result import Result, Work
from orcinus.bench.summary import Summary, summarize
from orcinus.bench.validity import doubts
from orcinus.errors import ConfigError


def compare(a: Result, b: Result, a_side: str | None = None, b_side: str | None = None) -> list[Verdict]:
    """Verdicts on the metrics of both results.

    Raises `ConfigError` if the work differs, or if one of them must not be believed. A result with several sides needs the
    name of the side to compare.
    """
    different = differences(a.work, b.work)
    if different:
        raise ConfigError(f"these results cannot be ranked, because the work differs: {'; '.join(different)}")
    one, other = _side(a, a_side, "first"), _side(b, b_side, "second")
    (verdicts,) = rank([(one, other)], leave_out=() if a.objectives == b.objectives else ("goodput",))
    return verdicts


def differences(a: Work, b: Work) -> list[str]:
    """The differences between two results' work, in words."""
    pairs = ((field.name, getattr(a, field.name), getattr(b, field.name)) for field in fields(Work))
    known = [(name, one, other) for name, one, other in pairs if None not in (one, other)]
    return [f"{name} {_word(one)} and {_word(other)}" for name, one, other in known if one != other]


def _word(value: object) -> str:
    """A value as a word in a sentence."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value or "none")


def _side(result: Result, name: str | None, which: str) -> Summary:
    names = [side.name for side in result.sides]
    if name is None and len(names) > 1:
        raise ConfigError(f"the {which} result has several sides: say which one to compare: {'; '.join(names)}")
    if name is not None and name not in names:
        raise ConfigError(f"the {which} result has no side {name!r}: choose {'; '.join(names)}")
    found = next(summary for summary in summarize(result.sides, result.goodput_slo) if name in (None, summary.name))
    if not found.intervals:
        why = " ".join(each.what for each in doubts(result)) or "it is empty"
        raise ConfigError(f"the {which} result has no valid runs: {why}")
    return found


def overall(verdicts: Sequence[Verdict], a: str = "a", b: str = "b") -> str:
    """One sentence about sides of these names."""
    ranked = [verdict for verdict in verdicts if verdict.better]
    if not ranked:
        return "Which is better cannot be told."
    wins = {side: sum(verdict.better == side for verdict in ranked) for side in ("a", "b")}
    undecided = f"undecided in {len(verdicts) - len(ranked)} of {len(verdicts)} metrics"
    return f"Better: {a} in {wins['a']}, {b} in {wins['b']}, {undecided}."
