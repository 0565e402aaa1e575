"""Synthetic results, for what is said about them."""

from __future__ import annotations

from collections.abc import Sequence

from orcinus.bench.record import Iteration, Repeat, RequestRecord
from orcinus.bench.result import Result, Setting, Side
from tests.bench.made_up import result as any_result


def request(number: int, times: Sequence[float], sent: float = 0.0, prompt: int = 8) -> RequestRecord:
    """One that was served as asked; `times` are those of its tokens."""
    return RequestRecord(
        number=number,
        prompt_tokens=prompt,
        output_tokens=len(times),
        due=sent,
        sent=sent,
        ended=times[-1],
        times=tuple(times),
    )


def iteration(seconds: float, prefill: int = 0, decodes: int = 1, waiting: int = 0, requests: int | None = None) -> Iteration:
    """One that began at 0."""
    return Iteration(0.0, seconds, decodes if requests is None else requests, prefill, decodes, waiting, decodes, 0)


def iterations(alone: float = 0.01, whole: float = 0.2, chunk: float = 0.02) -> list[Iteration]:
    """Decodes alone, with a whole prompt of 1024 tokens and with a chunk of 40."""
    return [iteration(alone), iteration(whole, 1024), iteration(chunk, 40)]


def repeat(number: int, requests: Sequence[RequestRecord], iterations: Sequence[Iteration] = (), **rest: object) -> Repeat:
    """One valid run."""
    return Repeat(
        round=number,
        seconds=max(each.ended for each in requests),
        requests=tuple(requests),
        iterations=tuple(iterations),
        slots=8,
        **rest,
    )


def side(name: str, repeats: Sequence[Repeat], **settings: Setting) -> Side:
    """All runs of one system."""
    return Side(name=name, settings=dict(settings), repeats=tuple(repeats))


def result(sides: Sequence[Side]) -> Result:
    """A complete one of these sides."""
    return any_result(sides, kind="papers")
