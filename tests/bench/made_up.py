"""Results of benchmarks that never ran: seeded, and as long, broken or hostile as a test wants them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orcinus.bench.record import ClientDelay, Iteration, Repeat, RequestOutcome, RequestRecord
from orcinus.bench.result import Host, Result, Setting, Side, Work

HOSTILE = "<script>alert('x')</script> & \"$\\frac{a}$\" | _`x`\n日本"


def result(sides: Sequence[Side] | None = None, **changes: Any) -> Result:
    """Two sides of three repeats, unless others are given."""
    made = Result(
        kind="offline",
        when="2026-05-04T10:20:30Z",
        command=("orcinus", "bench", "offline", "--policies", "orca,stall-free:token_budget=64"),
        commit="0123456789ab",
        versions={"python": "3.12.1", "orcinus": "0.1.0"},
        machine=Host(system="Linux-6.1", processor="A processor", cores=2, memory_mib=7952),
        work=work(),
        sides=tuple([side("orca"), side("stall-free", faster=1.3)] if sides is None else sides),
    )
    return replace(made, **changes)


def work(**changes: Any) -> Work:
    """Some work."""
    made = Work(
        workload="mixed",
        arrivals="poisson:rate=8",
        requests=20,
        seed=0,
        prompt_tokens=2000,
        output_tokens=400,
        prompts="fedcba9876543210",
        model="the bundled model",
    )
    return replace(made, **changes)


def side(name: str, repeats: int = 3, settings: Mapping[str, Setting] | None = None, **how: Any) -> Side:
    """One side. `how` goes to `repeat`."""
    made = tuple(repeat(number, seed=f"{name} {number}", **how) for number in range(repeats))
    return Side(name=name, settings={"policy": name} if settings is None else dict(settings), repeats=made)


def repeat(
    round_: int = 0, *, seed: str = "", requests: int = 20, tokens: int = 20, faster: float = 1.0, **changes: Any
) -> Repeat:
    """One run: requests come at random, and now and then a long prompt makes all wait."""
    random_ = random.Random(seed)
    records, at = [], 0.0
    for number in range(requests):
        at += random_.expovariate(8.0)
        records.append(_record(number, at, tokens, faster, random_))
    iterations = [_iteration(number * 0.02 / faster, faster, random_) for number in range(requests * tokens // 4)]
    made = Repeat(
        round=round_, seconds=at + 1, requests=tuple(records), iterations=tuple(iterations), slots=8, load=0.5, client=CLIENT
    )
    return replace(made, **changes)


CLIENT = ClientDelay(send_p50=1e-4, send_p99=1e-3, send_max=2e-3, loop_p50=1e-4, loop_p99=1e-3, loop_max=2e-3)


def spoil(record: RequestRecord, outcome: RequestOutcome, error: str = "") -> RequestRecord:
    """The same request, ended in another way."""
    return replace(record, outcome=outcome, error=error)


def _record(number: int, at: float, tokens: int, faster: float, random_: random.Random) -> RequestRecord:
    times, now = [], at
    for _ in range(tokens):
        now += random_.lognormvariate(-4, 0.4) / faster + (0.2 if random_.random() < 0.02 else 0.0)
        times.append(now)
    return RequestRecord(
        number=number,
        prompt_tokens=100,
        output_tokens=tokens,
        due=at,
        sent=at,
        ended=times[-1] if times else at,
        times=tuple(times),
        output=f"{number:016x}",
    )


def _iteration(at: float, faster: float, random_: random.Random) -> Iteration:
    prefill = random_.choice((0, 0, 0, 0, 128, 512))
    seconds = (0.01 + prefill * 2e-5) / faster
    running, waiting = random_.randint(1, 8), random_.randint(0, 5)
    return Iteration(at, at + seconds, running, prefill, running, waiting, running, 256 - running * 16)
