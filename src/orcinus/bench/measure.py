"""Metrics of a run, from its raw moments."""

from __future__ import annotations

import math
from collections.abc import Sequence

from orcinus.bench.record import Repeat, RequestOutcome, RequestRecord
from orcinus.core.slo import SLO
from orcinus.errors import ConfigError
from orcinus.observe.latency import mean, percentile

LATENCIES = ("ttft", "tbt", "tpot", "e2e")
PARTS = ("mean", "p50", "p95", "p99")
RATES = ("request_throughput", "prompt_throughput", "output_throughput", "total_throughput", "goodput")
HIGHER_IS_BETTER = frozenset({*RATES, "slot_use"})


def ttft(request: RequestRecord) -> float | None:
    """Time to first token, in seconds; None if there was none."""
    return request.times[0] - request.sent if request.times else None


def gaps(request: RequestRecord) -> list[float]:
    """Times between tokens (ITL) in seconds.

    Times between frames if only these are known.
    """
    return [after - before for before, after in zip(request.times, request.times[1:], strict=False)]


def tpot(request: RequestRecord) -> float | None:
    """Seconds per output token after the first; None for fewer than two."""
    if request.output_tokens is None or request.output_tokens < 2 or not request.times:
        return None
    return (request.times[-1] - request.times[0]) / (request.output_tokens - 1)


def e2e(request: RequestRecord) -> float:
    """End-to-end latency, in seconds."""
    return request.ended - request.sent


def latencies(requests: Sequence[RequestRecord]) -> dict[str, list[float]]:
    """All samples of each latency, from `ok` requests; `tbt` over tokens."""
    served = [request for request in requests if request.outcome is RequestOutcome.OK]
    return {
        "ttft": [value for request in served if (value := ttft(request)) is not None],
        "tbt": [gap for request in served for gap in gaps(request)],
        "tpot": [value for request in served if (value := tpot(request)) is not None],
        "e2e": [e2e(request) for request in served],
    }


def metrics(repeat: Repeat, slo: SLO | None = None) -> dict[str, float]:
    """A run's metrics by name, in seconds or per second.

    Unknown ones are left out. `slo` bounds the latencies of each request, for `goodput`.
    """
    found: dict[str, float] = dict(_throughput(repeat, slo))
    for name, values in latencies(repeat.requests).items():
        if values:
            values.sort()
            found[f"{name}.mean"] = mean(values)
            found |= {f"{name}.{part}": percentile(values, float(part[1:])) for part in PARTS[1:]}
    if repeat.iterations:
        found["iterations"] = len(repeat.iterations)
        if repeat.slots:
            found["slot_use"] = mean([iteration.requests for iteration in repeat.iterations]) / repeat.slots
    share = prefix_hit_rate(repeat)
    return found | repeat.counters | ({} if share is None else {"prefix_hit_rate": share})


def prefix_hit_rate(repeat: Repeat) -> float | None:
    """Share of prompt tokens found in the prefix cache; None if unknown.

    Taken from the answers, or else from the server's counters.
    """
    served = [request for request in repeat.requests if request.outcome is RequestOutcome.OK]
    if any(request.cached_tokens is not None for request in served):  # some servers leave out zeros
        return sum(request.cached_tokens or 0 for request in served) / sum(request.prompt_tokens for request in served)
    return repeat.counters.get("prefix_hit_rate")


def span(repeat: Repeat) -> float:
    """Seconds from the first request to the last ending."""
    if not repeat.requests:
        return 0.0
    return max(request.ended for request in repeat.requests) - min(request.sent for request in repeat.requests)


def _throughput(repeat: Repeat, slo: SLO | None) -> dict[str, float]:
    served, seconds = [request for request in repeat.requests if request.outcome is RequestOutcome.OK], span(repeat)
    found: dict[str, float] = {"requests": len(served), "not_served": len(repeat.requests) - len(served)}
    if seconds <= 0:
        return found
    found["request_throughput"] = len(served) / seconds
    found["prompt_throughput"] = prompts = sum(request.prompt_tokens for request in served) / seconds
    outputs = [request.output_tokens for request in served]
    if None not in outputs:
        found["output_throughput"] = output = math.fsum(count for count in outputs if count) / seconds
        found["total_throughput"] = prompts + output
    if slo is not None and slo.bounds:
        found["goodput"] = sum(is_good(request, slo) for request in served) / seconds
    return found


def is_good(request: RequestRecord, slo: SLO) -> bool:
    """Whether a request kept every bound (goodput as in DistServe, OSDI 2024).

    `ttft`, `tpot`, `e2e`: seconds at most. `tbt`: seconds that 99 % of the request's own gaps must not exceed.
    """
    own = gaps(request)
    found = {"tbt": percentile(own, 99) if own else 0.0, "tpot": tpot(request) or 0.0, "e2e": e2e(request)}
    first = ttft(request)
    return not slo.missed(found if first is None else {**found, "ttft": first})


def read_slo(spelled: str | None) -> SLO:
    """`ttft=0.5,tbt=0.05` as bounds on each request. Raises `ConfigError`."""
    found: dict[str, float] = {}
    for one in (spelled or "").split(","):
        name, equals, text = one.strip().partition("=")
        if not one.strip():
            continue
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if name not in LATENCIES or not equals or not 0 < seconds < math.inf:
            raise ConfigError(f"an objective is one of {', '.join(LATENCIES)} and seconds, as ttft=0.5, not {one.strip()!r}")
        found[name] = seconds
    return SLO(found)
