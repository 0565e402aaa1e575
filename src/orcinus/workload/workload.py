"""A workload: arrivals, lengths, number of requests, and a seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from typing import Literal

import numpy as np
from numpy.random import Generator, default_rng

from orcinus.core.component_spec import make
from orcinus.errors import ConfigError
from orcinus.workload.arrival import Arrival
from orcinus.workload.file_position import Skipped
from orcinus.workload.lengths import Empirical, Lengths, SharedPrefix, make_lengths
from orcinus.workload.processes import ARRIVALS, Closed, Process
from orcinus.workload.token_counts import CountTokens
from orcinus.workload.trace import Trace

BLOCK = 4096  # lengths drawn per block; does not change the numbers
PATIENCE = 100  # blocks without a short enough request before giving up
OWN_TIMES = "trace"  # as an arrival process: the times of the trace
TIMES, LENGTHS_DRAWN, PAUSES = range(3)  # random streams of their own, so that none disturbs another


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests to serve; every iteration draws the same ones, lazily.

    `arrivals` is None for the times of a trace. `requests` is the maximum number; None for a whole trace, or without end.
    Requests of more than `max_total` tokens are dropped, as in Sarathi-Serve (5.1). `max_tokens` is what each request asks
    for: None, exactly its answer (Oracle in vLLM, section 6.1); `pow2`, the next power of two (Pow2 there), at most up to
    `max_total`; or a number, at which longer answers end. Raises `ConfigError`.
    """

    arrivals: Process | Closed | None
    lengths: Lengths | Trace
    requests: int | None = None
    seed: int = 0
    max_total: int | None = None
    max_tokens: int | Literal["pow2"] | None = None
    count_tokens: CountTokens | None = None  # of traces of text, instead of their tokenizer
    skipped: Skipped = field(default_factory=Skipped, init=False, repr=False, compare=False)  # rows, in the last reading

    def __post_init__(self) -> None:
        if self.requests is not None and self.requests < 1:
            raise ConfigError(f"a workload needs at least 1 request, not {self.requests}")
        if self.seed < 0:
            raise ConfigError(f"the seed must be at least 0, not {self.seed}")
        if self.max_total is not None and self.max_total < 2:
            raise ConfigError(f"max_total must be at least 2 tokens, one of prompt and one of output, not {self.max_total}")
        if self.max_tokens not in (None, "pow2") and (not isinstance(self.max_tokens, int) or self.max_tokens < 1):
            raise ConfigError(f"max_tokens must be a whole number of at least 1, or pow2, not {self.max_tokens!r}")
        if self.arrivals is None and not (isinstance(self.lengths, Trace) and self.lengths.kind.timed):
            raise ConfigError("nothing says when requests come: give an arrival process, such as poisson:rate=2")

    def __iter__(self) -> Iterator[Arrival]:
        if isinstance(self.arrivals, Closed):
            raise ConfigError("in a closed loop a request comes after an answer: drive it with Workload.loop")
        return islice(self._asking(self._timed(self.arrivals)), self.requests)

    @property
    def endless(self) -> bool:
        """Whether iteration never ends."""
        return self.requests is None and not isinstance(self.lengths, Trace)

    def notes(self) -> list[str]:
        """Notes on a trace, complete once it has been read."""
        lengths = self.lengths
        if not isinstance(lengths, Trace | Empirical):
            return []
        trace, skipped = (lengths, self.skipped) if isinstance(lengths, Trace) else (lengths.trace, lengths.skipped)
        kind, found = trace.kind, []
        if isinstance(lengths, Trace) and kind.timed:
            process = next((name for name, made in ARRIVALS.items() if made is type(self.arrivals)), None)
            own = f"requests come at the times of {trace.file}" + (f", times {trace.scale:g}" if trace.scale != 1 else "")
            found.append(own if process is None else f"requests come as {process} says, not at the times of {trace.file}")
        if kind.text:
            found.append(f"tokens of the texts in {trace.file} are those of {trace.counted_by}")
        return [*found, skipped.said] if skipped.rows else found

    def loop(self) -> ClosedLoop:
        """A new run of a closed loop.

        Raises `ConfigError` for an open one.
        """
        if not isinstance(self.arrivals, Closed):
            raise ConfigError("only closed arrivals have a loop: iterate over the workload")
        pauses = self.arrivals.pauses(self._stream(PAUSES))
        return ClosedLoop(self.arrivals.clients, self.untimed(), pauses)

    def untimed(self) -> Iterator[Arrival]:
        """The requests in order, with the trace's times or at 0."""
        return islice(self._asking(self._bodies()), self.requests)

    def _asking(self, arrivals: Iterator[Arrival]) -> Iterator[Arrival]:
        """The arrivals, each with the `max_tokens` it asks for."""
        most = self.max_tokens
        if most is None:
            return arrivals
        if most == "pow2":
            return (replace(each, max_tokens=self._power_of_two(each)) for each in arrivals)
        return (replace(each, output_tokens=min(each.output_tokens, most), max_tokens=most) for each in arrivals)

    def _power_of_two(self, arrival: Arrival) -> int:
        """The power of two above its answer, up to the longest request."""
        power = 1 << (arrival.output_tokens - 1).bit_length()
        return power if self.max_total is None else min(power, self.max_total - arrival.prompt_tokens)

    def _timed(self, process: Process | None) -> Iterator[Arrival]:
        if process is None:
            yield from self._bodies()
            return
        moments = process.moments(self._stream(TIMES))
        if isinstance(self.lengths, Trace):
            yield from (replace(body, at=at) for body, at in zip(self._bodies(), moments, strict=False))
        else:
            yield from self._made(self.lengths, moments)

    def _bodies(self) -> Iterator[Arrival]:
        if isinstance(self.lengths, Trace):
            read = self.lengths.arrivals(self.count_tokens, self.skipped)
            return (body for body in read if self.max_total is None or body.total_tokens <= self.max_total)
        return self._made(self.lengths, repeat(0.0))

    def _made(self, lengths: Lengths, moments: Iterator[float]) -> Iterator[Arrival]:
        drawn = zip(self._drawn(lengths), moments, strict=False)
        if isinstance(lengths, SharedPrefix):
            return (lengths.arrival(at, number, *pair) for number, (pair, at) in enumerate(drawn))
        return (Arrival(at, prompt, output) for (prompt, output), at in drawn)

    def _drawn(self, lengths: Lengths) -> Iterator[list[int]]:
        rng, fruitless = self._stream(LENGTHS_DRAWN), 0
        while fruitless < PATIENCE:
            pairs = lengths.pairs(rng.random((BLOCK, 2)))
            if self.max_total is not None:
                pairs = pairs[pairs.sum(axis=1) <= self.max_total]
            fruitless = 0 if len(pairs) else fruitless + 1
            yield from pairs.tolist()
        raise ConfigError(f"of {PATIENCE * BLOCK} requests drawn, none had at most max_total={self.max_total} tokens")

    def _stream(self, number: int) -> Generator:
        return default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))


class ClosedLoop:
    """One run of a closed loop: each answer triggers the next request.

    Requests keep their order and lengths: the n-th to be sent is the same under every scheduler.
    """

    def __init__(self, clients: int, bodies: Iterator[Arrival], pauses: Iterator[float]) -> None:
        self._clients, self._bodies, self._pauses = clients, bodies, pauses

    def first(self) -> Iterator[Arrival]:
        """The first request of every client, all at 0."""
        for number in range(self._clients):
            yield from self._next(f"client-{number}", 0.0)

    def again(self, client: str, ended: float) -> Arrival | None:
        """The client's next request after an answer; None if none is left."""
        return next(self._next(client, ended + next(self._pauses)), None)

    def _next(self, client: str, at: float) -> Iterator[Arrival]:
        for body in self._bodies:
            yield replace(body, at=at, client=client)
            return


def make_workload(
    arrivals: str | None,
    lengths: str,
    requests: int | None = None,
    seed: int = 0,
    max_total: int | None = None,
    max_tokens: int | Literal["pow2"] | None = None,
    count_tokens: CountTokens | None = None,
) -> Workload:
    """A workload from words: `make_workload("poisson:rate=2", "sharegpt", 1000)`.

    `lengths` is read by `make_lengths`. With `trace:file=...`, `arrivals` may be None or `trace`: then requests arrive at
    the trace's times. Raises `ConfigError` that lists the choices.
    """
    process = None if arrivals in (None, OWN_TIMES) else make("arrival process", ARRIVALS, arrivals)
    return Workload(process, make_lengths(lengths), requests, seed, max_total, max_tokens, count_tokens)


def usual_arrivals(lengths: str, otherwise: str) -> str:
    """Default arrivals: a trace's own times if it has them, else `otherwise`.

    Raises `ConfigError` for lengths that cannot be read.
    """
    if lengths.split(":")[0] != "trace":
        return otherwise
    made = make_lengths(lengths)
    return OWN_TIMES if isinstance(made, Trace) and made.kind.timed else otherwise
