"""Observers and simulations stay right when an iteration gives a request several tokens: its drafts were accepted."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

import pytest

from orcinus.core.batch import Batch, BatchResult
from orcinus.core.component_spec import make_policy
from orcinus.core.engine import Engine
from orcinus.core.kv import Paged
from orcinus.core.policies import POLICIES
from orcinus.core.ports import Observer
from orcinus.core.request import Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.cost.work import FixedCost
from orcinus.observe.latency import LatencyObserver
from orcinus.observe.metrics import MetricsObserver
from orcinus.observe.perfetto import trace
from orcinus.observe.recorder import StepRecorder, read_lines
from orcinus.observe.replay import replay
from orcinus.observe.slots import SlotObserver
from orcinus.observe.timeline import TimelineObserver
from orcinus.sim.clock import VirtualClock
from orcinus.sim.executor import END, SimulatedExecutor
from orcinus.sim.repeats import MADE_UP, RepeatingScheduler, RepeatMetrics
from tests.worlds import GuessingDrafter, build_world, next_token, random_jobs, run

LIMITS = Limits(max_batch_size=4, max_batch_tokens=64, max_model_len=40)


class Clairvoyant:
    """Always guesses two tokens, and always right, as far as the answer goes."""

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        sequence = [*request.prompt, *request.output]
        for _ in range(min(most, 2)):
            sequence.append(next_token(sequence))
        return tuple(sequence[request.known :])


class Decodes(Observer):
    """How many iterations decoded for each request."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self.counts.update(chunk.request_id for chunk in batch.chunks if not chunk.prefill)


def test_one_request_by_hand(tmp_path: Path) -> None:
    """A prompt of 4 and an answer of 8: one token from the prompt, twice two drafts and one more, and the last alone."""
    world = build_world(make_policy("orca"), "paged", drafter=Clairvoyant(), limits=LIMITS)
    latency, metrics, timelines, slots = LatencyObserver(), MetricsObserver(LIMITS), TimelineObserver(), SlotObserver(1)
    recorder = StepRecorder(tmp_path / "steps.jsonl", {})
    world.engine.observers += [latency, metrics, timelines, slots, recorder]
    world.engine.submit(Request("r", (1, 2, 3, 4), SamplingParams(max_tokens=8, seed=0), 0.0))
    while not world.engine.idle:
        world.engine.step()
    world.engine.close()
    assert world.engine.dropped_observers == []

    moments = latency.requests["r"].tokens
    assert [len(list(together)) for _, together in groupby(moments)] == [1, 3, 3, 1]
    assert [gap > 0 for gap in latency.tbt()] == [True, False, False, True, False, False, True]
    assert (metrics.tbt.count, metrics.tbt.above(0.0)) == (7, 3)
    assert metrics.tbt.total == pytest.approx(moments[-1] - moments[0])
    assert metrics.tpot.mean == pytest.approx((moments[-1] - moments[0]) / 7)
    assert (metrics.output_tokens, metrics.iterations) == (8, 4)

    timeline = timelines.get("r")
    assert timeline is not None
    assert (timeline.output_tokens, timeline.prefill_iterations, timeline.decode_iterations) == (8, 1, 3)
    assert (timeline.draft_tokens, timeline.accepted_draft_tokens) == (4, 4)
    assert [cell.phase.value for (cell,) in slots.columns if cell] == ["prefill", "decode", "decode", "decode"]
    drawn = trace(read_lines(tmp_path / "steps.jsonl"))["traceEvents"]
    phases = [event["name"] for event in drawn if event["ph"] == "X" and event["name"] in ("prefill", "decode")]
    assert phases == ["prefill", "decode", "decode", "decode"]


@pytest.mark.parametrize("policy", POLICIES)
def test_metrics_and_timelines_agree_with_what_happened(policy: str) -> None:
    world = build_world(make_policy(policy), "prefix-cache", drafter=GuessingDrafter(3), num_blocks=14, limits=LIMITS)
    latency, metrics, timelines, decodes = LatencyObserver(), MetricsObserver(LIMITS), TimelineObserver(), Decodes()
    world.engine.observers += [latency, metrics, timelines, decodes]
    requests = run(world, random_jobs(random.Random(5), 20))
    assert world.engine.dropped_observers == []
    for mine, exact in ((metrics.ttft, latency.ttft()), (metrics.tbt, latency.tbt()), (metrics.e2e, latency.e2e())):
        assert (mine.count, mine.total) == (len(exact), pytest.approx(sum(exact)))
    assert 0.0 in latency.tbt()
    for request in requests:
        timeline = timelines.get(request.id)
        assert timeline is not None
        assert timeline.output_tokens == len(request.output) == len(latency.requests[request.id].tokens)
        assert timeline.decode_iterations == decodes.counts[request.id] or timeline.preemptions


@pytest.mark.parametrize("kv", ["paged", "prefix-cache"])
def test_a_run_with_drafts_is_replayed(kv: str, tmp_path: Path) -> None:
    world = build_world(make_policy("stall-free:token_budget=9"), kv, drafter=GuessingDrafter(7), num_blocks=12, limits=LIMITS)
    header = {"policy": "stall-free:token_budget=9", "order": "fcfs", "kv": kv, "limits": asdict(LIMITS)}
    recorder = StepRecorder(tmp_path / "steps.jsonl", header | {"num_blocks": 12, "block_size": 4, "depth": 1})
    world.engine.observers.append(recorder)
    run(world, random_jobs(random.Random(8), 20, cancels=True))
    world.engine.close()
    lines = read_lines(tmp_path / "steps.jsonl")
    assert any(len(chunk) == 5 for line in lines if line["kind"] == "launch" for chunk in line["chunks"])
    assert replay(lines).batches == len(world.record.batches)


class Accepting(SimulatedExecutor):
    """Accepts every draft."""

    def collect(self) -> BatchResult:
        batch = self._flights[0].batch
        result = super().collect()
        rows = [(MADE_UP,) * (chunk.drafts or 0) + row for chunk, row in zip(batch.chunks, result.tokens, strict=True)]
        return BatchResult(batch.id, tuple(rows))


class MadeUp:
    """Guesses what simulations generate, two tokens at a time."""

    def draft(self, request: Request, most: int) -> tuple[int, ...]:
        return (MADE_UP,) * min(most, 2)


@pytest.mark.parametrize(
    ("asked", "kind", "iterations"), [(9, SimulatedExecutor, 9), (30, SimulatedExecutor, 9), (9, Accepting, 4)]
)
def test_a_simulated_answer_ends_where_it_should(asked: int, kind: type[SimulatedExecutor], iterations: int) -> None:
    """Nine tokens, whether more are asked for or not: the first, and eight by ones or, with drafts accepted, by threes."""
    clock, metrics = VirtualClock(), RepeatMetrics(LIMITS)
    executor = kind(FixedCost(1.0), clock)
    if asked > 9:
        executor.answers["r"] = 9
    kv = Paged(24, 4)
    scheduler = RepeatingScheduler(make_policy("orca"), kv, LIMITS, drafter=MadeUp())
    engine = Engine(scheduler, executor, clock, [metrics])
    engine.submit(Request("r", (MADE_UP,) * 5, SamplingParams(max_tokens=asked, seed=0, stop_token_ids=(END,)), 0.0))
    while not engine.idle:
        engine.step()
    assert (metrics.output_tokens, metrics.iterations, clock.now()) == (9, iterations, iterations)
    assert (metrics.tbt.count, metrics.tbt.total) == (8, iterations - 1)
    assert kv.num_free == 24
