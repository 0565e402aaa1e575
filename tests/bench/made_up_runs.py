"""Runs whose every moment is known, because they were made up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orcinus.bench.record import Repeat, RequestOutcome, RequestRecord
from orcinus.bench.result import Host, Result, Side, Work


def request(number: int, sent: float, times: Sequence[float], prompt: int = 10, **other: Any) -> RequestRecord:
    """One that got a token at each of these moments and ended with the last of them."""
    fields: dict[str, Any] = {"output_tokens": len(times), "due": sent, "ended": times[-1] if times else sent, "output": "same"}
    return RequestRecord(number=number, prompt_tokens=prompt, sent=sent, times=tuple(times), **(fields | other))


def lost(number: int, outcome: RequestOutcome, error: str = "") -> RequestRecord:
    return request(number, 0.0, (), outcome=outcome, error=error, ended=1.0)


def repeat(*requests: RequestRecord, number: int = 0, **other: Any) -> Repeat:
    return Repeat(round=number, seconds=max(each.ended for each in requests), requests=requests, **other)


def run_of(seconds: float, number: int = 0, **other: Any) -> Repeat:
    """One request of two tokens that took so long, half of it for the first."""
    return repeat(request(0, 0.0, (seconds / 2, seconds)), number=number, **other)


def side(name: str, *repeats: Repeat, **settings: Any) -> Side:
    return Side(name=name, settings=settings, repeats=repeats)


def work(**changed: Any) -> Work:
    fields = {
        "workload": "mixed",
        "arrivals": "all-at-once",
        "requests": 1,
        "seed": 0,
        "prompt_tokens": 10,
        "output_tokens": 2,
        "prompts": "0123456789abcdef",
        "model": "a-model",
    }
    return Work(**(fields | changed))


def result(*sides: Side, **changed: Any) -> Result:
    fields: dict[str, Any] = {
        "kind": "offline",
        "when": "2026-01-01T00:00:00+00:00",
        "command": ("orcinus", "bench", "offline"),
        "commit": "0123456789ab",
        "versions": {"orcinus": "0.1.0"},
        "machine": Host(system="Linux", processor="a processor", cores=2, memory_mib=1024),
        "work": work(),
    }
    return Result(sides=sides, **(fields | changed))
