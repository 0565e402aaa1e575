"""Median seconds of calls, in turn, without the host's launch time."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from on_gpu.bench import Bench, first_line

Call = Callable[[], object]
Ring = Sequence[Call]  # calls that do the same on other data, so that none finds its data in a cache
LEAST_S = 1e-3  # of calls between two events: launching a graph must not show
MOST_CALLS = 200  # in one graph


@dataclass(frozen=True, slots=True)
class _Side:
    """One side: a ring of calls, captured as a graph where possible."""

    play: Call
    calls: int


def seconds_in_turn(bench: Bench, sides: Mapping[str, Ring]) -> dict[str, float | None]:
    """Median seconds of one call of each side; they take turns. None, and a fact that says why, for one that raises.

    On a device, a side is captured in a CUDA graph and timed by events, so that only the device's time counts.
    """
    ready: dict[str, _Side] = {}
    for name, ring in sides.items():
        try:
            ready[name] = _prepare(bench, ring, name)
        except Exception as error:
            bench.fact(f"{name} left out", first_line(error))
    taken: dict[str, list[float]] = {name: [] for name in ready}
    play = _play_timed_by_events if bench.device.type == "cuda" else _play_timed_by_the_host
    for _ in range(_turns(bench, list(ready.values()))):
        for name, side in ready.items():
            taken[name].append(play(side) / side.calls)
    return {name: statistics.median(taken[name]) if name in taken else None for name in sides}


def seconds(bench: Bench, ring: Ring) -> float:
    """Median seconds of one call. Raises what the call raises."""
    side = _prepare(bench, ring, "it")
    play = _play_timed_by_events if bench.device.type == "cuda" else _play_timed_by_the_host
    return statistics.median(play(side) / side.calls for _ in range(_turns(bench, [side])))


def ring_size(bench: Bench, num_bytes: int, most: int = 64) -> int:
    """How many copies of data of so many bytes a cache cannot hold."""
    return max(1, min(most, math.ceil(bench.sizes.ring_bytes / max(1, num_bytes))))


def _prepare(bench: Bench, ring: Ring, name: str) -> _Side:
    """A warmed-up side; on a device, a captured graph of many rounds.

    What cannot be captured is timed with its launches, and a fact says so.
    """
    for call in ring:
        call()
    if bench.device.type != "cuda":
        return _Side(lambda: [call() for call in ring], len(ring))
    once = _Side(lambda: [call() for call in ring], len(ring))
    took = _play_timed_by_events(once)
    rounds = max(1, min(math.ceil(LEAST_S / max(took, 1e-6)), MOST_CALLS // len(ring)))
    graph = _capture(list(ring) * rounds)
    if graph is None:
        bench.fact(f"{name} was not captured", "its figures hold the host's time to launch it")
        return once
    return _Side(graph.replay, len(ring) * rounds)


def _capture(calls: Ring) -> torch.cuda.CUDAGraph | None:
    """The calls as a CUDA graph; None if they cannot be captured."""
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            for call in calls:
                call()
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    graph.replay()
    return graph


def _turns(bench: Bench, sides: Sequence[_Side]) -> int:
    """As many as fill `measure_s`, three at least unless fewer are asked for."""
    most = bench.sizes.turns
    if most == 1:
        return 1
    began = time.perf_counter()
    for side in sides:
        side.play()
    if bench.device.type == "cuda":
        torch.cuda.synchronize()
    took = time.perf_counter() - began
    return max(min(3, most), min(most, int(bench.sizes.measure_s / max(took, 1e-6))))


def _play_timed_by_events(side: _Side) -> float:
    """Seconds of the device from before the first call to after the last."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    side.play()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1000


def _play_timed_by_the_host(side: _Side) -> float:
    began = time.perf_counter()
    side.play()
    return time.perf_counter() - began
