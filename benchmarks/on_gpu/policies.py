"""Scheduling policies under the same mixed load: time to first token, time between tokens, tokens/s.

Requests come as a Poisson process at seven tenths of what the engine can serve, which is measured first; they are the same
for every policy. A policy that falls behind is cut, and its row says so: its percentiles are then of a queue that grows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from on_gpu.bench import Bench, first_line
from on_gpu.engines import engine
from on_gpu.serve import Asked, Served, serve
from on_gpu.sizes import Load
from orcinus.build import Built
from orcinus.core.engine import Engine
from orcinus.observe.latency import LatencyObserver, percentile
from orcinus.workload.prompts import prompt_ids
from orcinus.workload.workload import make_workload

POLICIES = (
    "fastertransformer",
    "orca",
    "prefill-first",
    "sarathi:chunk_size=512",
    "stall-free:token_budget=512",
    "latency-target",
)
LOADED = 0.7  # of the capacity
PERCENTILES = (50, 90, 99)


def run(bench: Bench) -> None:
    model, load = bench.sizes.models[0], bench.sizes.mixed
    with engine(bench, model, load) as built:
        at_once = requests_of(load, "all-at-once", load.requests, model.vocab)
        serve(of_policy(built, load.policy), at_once[:8])  # kernels are compiled, and memory is there
        served = serve(of_policy(built, load.policy), at_once, bench.left() / 3)
        capacity = served.ended / served.seconds
        rate = LOADED * capacity
        bench.fact("capacity, requests per second", capacity)
        bench.fact("measured with", f"{load.policy}, {load.requests} requests at once" + (", cut" if served.cut else ""))
        bench.fact("arrivals per second", rate)
        count = max(2, round(rate * bench.sizes.mixed_s))
        requests = requests_of(load, f"poisson:rate={rate}", count, model.vocab)
        for number, policy in enumerate(POLICIES):
            one(bench, built, policy, requests, bench.left() / (len(POLICIES) - number))


def one(bench: Bench, built: Built, policy: str, requests: Sequence[Asked], seconds: float) -> None:
    """A row: the policy's figures, or why there are none."""
    latency = LatencyObserver()
    try:
        empty = of_policy(built, policy)
        empty.observers.append(latency)
        served = serve(empty, requests, seconds)
    except Exception as error:
        bench.row("policies", policy=policy, note=first_line(error))
        return
    bench.row("policies", policy=policy, **figures(latency, served), note="cut" if served.cut else "")


def figures(latency: LatencyObserver, served: Served) -> dict[str, float]:
    """Milliseconds, and tokens/s of the whole run, its end included in which nothing comes any more."""
    found = {"requests": float(served.ended), "tokens_per_s": served.tokens / served.seconds}
    for name, values in (("ttft", latency.ttft()), ("tbt", latency.tbt())):
        found |= {f"{name}_p{p}_ms": percentile(values, p) * 1e3 for p in PERCENTILES}
    return found


def of_policy(built: Built, policy: str) -> Engine:
    """An empty engine that decides by it."""
    return built.another(replace(built.plan.config, policy=policy))


def requests_of(load: Load, arrivals: str, count: int, vocab: int) -> list[Asked]:
    """So many requests of the load, the same whatever their arrivals are."""
    lengths = ",".join(f"uniform:low={low}:high={high}" for low, high in (load.prompts, load.outputs))
    workload = make_workload(arrivals, lengths, count)
    return [Asked(each.at, prompt_ids(each, number, vocab), each.output_tokens) for number, each in enumerate(workload)]
