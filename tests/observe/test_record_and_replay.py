"""Recorded iterations: the file, the trace made of it, and that a replay decides the same again."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orcinus.core.component_spec import make_order, make_policy
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES, Orca
from orcinus.core.request import Overlap, Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.scheduler import NO_OVERLAP
from orcinus.errors import ConfigError, PolicyError, ReplayDiffers
from orcinus.observe.dropped_observers import warn_of_dropped
from orcinus.observe.perfetto import trace
from orcinus.observe.recorder import StepRecorder, read_lines
from orcinus.observe.replay import _request as request_of
from orcinus.observe.replay import replay
from tests.product import product
from tests.worlds import OVERLAP, Job, World, build_world, random_jobs, run

Lines = list[dict[str, Any]]


def recorded_world(
    path: Path, policy: str, kv: str, order: str, depth: int, *, overlap: Overlap = NO_OVERLAP
) -> tuple[World, StepRecorder]:
    world = build_world(make_policy(policy), kv, depth=depth, overlap=overlap, num_blocks=12, order=order)
    limits = world.engine.scheduler.limits
    sizes = {"num_blocks": 12, "block_size": 4, "depth": depth, "overlap": list(overlap)}
    recorder = StepRecorder(
        path, {"policy": policy, "order": order, "kv": kv, "limits": {f: getattr(limits, f) for f in limits.__slots__}, **sizes}
    )
    world.engine.observers.append(recorder)
    return world, recorder


def record(
    path: Path,
    policy: str,
    kv: str,
    order: str,
    depth: int,
    jobs: list[Job],
    *,
    switch: bool = False,
    overlap: Overlap = NO_OVERLAP,
) -> Lines:
    """Run jobs and return what was recorded."""
    world, recorder = recorded_world(path, policy, kv, order, depth, overlap=overlap)
    step, turn = world.engine.step, itertools.count()

    def maybe_switch():  # type: ignore[no-untyped-def]
        if switch and next(turn) == 7:
            world.engine.use(make_policy("sarathi:chunk_size=5"), make_order("fair"))
        return step()

    world.engine.step = maybe_switch  # type: ignore[method-assign]
    run(world, jobs)
    recorder.close()
    assert world.engine.dropped_observers == []
    return read_lines(path)


@pytest.mark.parametrize(("policy", "kv", "order"), product(POLICIES, KV_MANAGERS, ORDERS))
def test_a_replay_takes_the_same_decisions(policy: str, kv: str, order: str, tmp_path: Path) -> None:
    seed = list(ORDERS).index(order)
    jobs = random_jobs(random.Random(seed), 20, cancels=True)
    lines = record(tmp_path / "steps.jsonl", policy, kv, order, 1 + seed % 2, jobs, switch=seed % 2 == 1)
    done = replay(lines)
    assert done.requests == len(jobs)
    assert done.batches == sum(line["kind"] == "launch" for line in lines) > 5
    assert done.tokens > 5


def test_arrivals_and_cancellations_while_a_batch_is_in_flight_are_replayed(tmp_path: Path) -> None:
    """An engine process hears of requests between the launch of a batch and its return."""
    path = tmp_path / "steps.jsonl"
    world, recorder = recorded_world(path, "orca", "paged", "fcfs", 2)
    engine, params = world.engine, SamplingParams(max_tokens=6, seed=0)
    for turn in range(5):
        engine.submit(Request(f"r{turn}", (1, 2, 3), params, engine.clock.now()))
        engine.dispatch()
        if turn % 2:
            engine.cancel(f"r{turn}")
            engine.dispatch()
        engine.settle()
    while not engine.idle:
        engine.step()
    recorder.close()
    kinds = [line["kind"] for line in read_lines(path)]
    assert ("launch", "cancel") in itertools.pairwise(kinds)
    assert replay(read_lines(path)).requests == 5


def test_a_decision_that_is_not_taken_now_is_noticed(tmp_path: Path) -> None:
    lines = record(tmp_path / "steps.jsonl", "orca", "paged", "fcfs", 1, [Job(0, (1, 2), SamplingParams(max_tokens=3, seed=0))])
    launch = next(line for line in lines if line["kind"] == "launch")
    with pytest.raises(ReplayDiffers, match="says 'launch', which did not happen now"):
        replay([*lines, launch])


def test_a_replay_with_another_policy_differs(tmp_path: Path) -> None:
    lines = record(tmp_path / "steps.jsonl", "orca", "paged", "fcfs", 1, random_jobs(random.Random(0), 20))
    lines[0]["policy"] = "request-level:release=each"
    with pytest.raises(ReplayDiffers, match=r"line \d+: iteration \d+ was recorded with"):
        replay(lines)


def test_a_tampered_ending_is_noticed(tmp_path: Path) -> None:
    lines = record(tmp_path / "steps.jsonl", "orca", "paged", "fcfs", 1, random_jobs(random.Random(0), 20))
    ending = next(line for line in lines if line["kind"] == "finish")
    ending["reason"] = "failed"
    with pytest.raises(ReplayDiffers, match="ended with 'failed'"):
        replay(lines)


def test_sampling_parameters_survive(tmp_path: Path) -> None:
    masks = {"allowed_token_ids": (1, 5, 9), "bad_words": ("w",), "bad_words_token_ids": ((5,), (1, 9))}
    params = SamplingParams(max_tokens=3, logit_bias={5: 1.5}, stop=("x", "y"), top_p=0.5, seed=7, **masks)  # type: ignore[arg-type]
    lines = record(tmp_path / "steps.jsonl", "orca", "paged", "fcfs", 1, [Job(0, (1, 2), params)])
    assert lines[1]["params"]["logit_bias"] == {"5": 1.5}
    assert request_of(lines[1]).params == params
    assert replay(lines).requests == 1


def test_what_a_line_says(tmp_path: Path) -> None:
    jobs = [Job(0, tuple(range(9)), SamplingParams(max_tokens=2, seed=0)) for _ in range(6)]
    lines = record(tmp_path / "steps.jsonl", "stall-free:token_budget=12", "paged", "fcfs", 1, jobs)
    launch = next(line for line in lines if line["kind"] == "launch")
    assert launch["chunks"] == [["r0", 0, 9, 1], ["r1", 0, 3, 0]]
    assert (launch["waiting"], launch["running"], launch["free_blocks"]) == (4, 2, 6)
    assert launch["others"] == "budget spent"
    back = next(line for line in lines if line["kind"] == "return")
    assert back["at"] > launch["at"]
    assert [len(row) for row in back["tokens"]] == [1, 0]


@pytest.mark.parametrize(("depth", "overlap"), [(1, NO_OVERLAP), (2, NO_OVERLAP), (2, OVERLAP), (4, OVERLAP)])
def test_the_trace_has_a_track_per_request_and_a_slice_per_iteration(depth: int, overlap: Overlap, tmp_path: Path) -> None:
    jobs = random_jobs(random.Random(3), 15, cancels=True)
    policy = "stall-free:token_budget=9"
    lines = record(tmp_path / "steps.jsonl", policy, "prefix-cache", "fcfs", depth, jobs, overlap=overlap)
    drawn = json.loads(json.dumps(trace(lines)))["traceEvents"]
    launches = [line for line in lines if line["kind"] == "launch"]
    assert sum(event["name"].startswith("iteration") for event in drawn) == len(launches)
    tracks = [event for event in drawn if event["name"] == "thread_name"]
    assert len(tracks) == len(jobs)
    slices = [event for event in drawn if event["ph"] == "X"]
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in slices)
    chunks = sum(len(line["chunks"]) for line in launches)
    assert sum(event["name"] in ("prefill", "decode") for event in slices) == chunks
    for tid in {(event["pid"], event["tid"]) for event in slices}:  # slices of one track follow each other
        own = sorted((e["ts"], e["ts"] + e["dur"]) for e in slices if (e["pid"], e["tid"]) == tid)
        assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(own))


def test_what_was_not_switched_keeps_its_counts_and_is_replayed_so(tmp_path: Path) -> None:
    """`fair` counts what clients were given. A new policy, or the same order named again, must not forget it."""
    file = tmp_path / "steps.jsonl"
    world, recorder = recorded_world(file, "orca", "paged", "fair", 1)
    crowd = [Job(0, (1,) * 9, SamplingParams(max_tokens=4, seed=0), context=RequestContext(client="crowd")) for _ in range(12)]
    single = [
        Job(14, (1,) * 9, SamplingParams(max_tokens=4, seed=0), context=RequestContext(client="single")) for _ in range(3)
    ]
    step, turn = world.engine.step, itertools.count()

    def switch_and_step():  # type: ignore[no-untyped-def]
        if (now := next(turn)) in (8, 12):
            before = dict(world.engine.scheduler.order.counters)  # type: ignore[attr-defined]
            world.engine.use(make_policy("stall-free"), make_order("fair") if now == 12 else None)
            assert world.engine.scheduler.order.counters == before != {}  # type: ignore[attr-defined]
        return step()

    world.engine.step = switch_and_step  # type: ignore[method-assign]
    run(world, [*crowd, *single])
    recorder.close()
    assert replay(read_lines(file)).requests == 15


def test_another_order_of_the_same_kind_counts_from_nothing() -> None:
    world = build_world(Orca(), "paged", order="fair")
    run(world, random_jobs(random.Random(0), 5))
    world.engine.use(order=make_order("fair:output_cost=3"))
    assert world.engine.scheduler.order.counters == {}  # type: ignore[attr-defined]


def test_calls_without_effect_leave_no_trace(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    world, recorder = recorded_world(file, "orca", "paged", "fcfs", 1)
    first = Request("a", (1, 2), SamplingParams(max_tokens=2, seed=0), 0.0)
    world.engine.submit(first)
    with pytest.raises(PolicyError, match="already in use"):
        world.engine.submit(Request("a", (3, 4), SamplingParams(max_tokens=9, seed=0), 1.0))
    world.engine.cancel("unknown")
    while not world.engine.idle:
        world.engine.step()
    world.engine.cancel("a")
    recorder.close()
    lines = read_lines(file)
    assert [line["kind"] for line in lines if line["kind"] in ("submit", "cancel")] == ["submit"]
    assert world.record.submitted == ["a"]
    replay(lines)


def test_a_full_disk_is_told_once_and_the_engine_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    world = build_world(Orca(), "paged")
    world.engine.on_dropped = warn_of_dropped
    world.engine.observers.append(StepRecorder("/dev/full", {}))
    requests = run(world, random_jobs(random.Random(0), 200))  # more than the file's buffer holds
    assert len(world.record.endings) == len(requests)
    assert [one.getMessage() for one in caplog.records] == [
        "StepRecorder is dropped, the engine goes on without it: cannot record to /dev/full: No space left on device"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is no record of iterations"),
        ("{}\n", "is no record of iterations"),
        ('{"kind":"engine","version":99}\n', "is no record of iterations"),
        ('{"kind":"engine","version":1}\n{"kind":"sub', "line 2 of .* is no JSON"),
    ],
)
def test_files_that_are_no_records(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_lines(file)


@pytest.mark.parametrize("make", [lambda folder: folder, lambda folder: folder / "missing" / "x"])
def test_places_that_cannot_be_written_or_read(make: Callable[[Path], Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot record to"):
        StepRecorder(make(tmp_path), {})
    with pytest.raises(ConfigError, match="cannot read the record"):
        read_lines(make(tmp_path))


def test_a_recorder_that_fails_disturbs_no_request(tmp_path: Path) -> None:
    world = build_world(Orca(), "paged")
    recorder = StepRecorder(tmp_path / "steps.jsonl", {})
    recorder.close()  # writing to it raises from now on
    world.engine.observers.append(recorder)
    run(world, random_jobs(random.Random(0), 5))
    assert [dropped for dropped, _ in world.engine.dropped_observers] == [recorder]


def test_a_record_of_version_1_is_replayed() -> None:
    """Two batches at a time that follow each other, cancellations, and a row that failed, as the first version wrote them."""
    lines = read_lines(Path(__file__).with_name("record_version_1.jsonl"))
    assert (lines[0]["version"], lines[0]["chains"]) == (1, True)
    assert any("errors" in line for line in lines)
    assert (replay(lines).batches, replay(lines).tokens) == (21, 34)
