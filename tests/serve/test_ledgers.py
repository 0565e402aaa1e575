"""Where the whole time of a request went, in the access log: the accounts add up, and each has its own cause."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import Batch, BatchResult, Event, Finished, Submitted, Token
from orcinus.core.component_spec import make_policy
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES, Orca, PrefillFirst, StallFree
from orcinus.core.ports import Observer
from orcinus.core.request import Finish
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.unserved import Unserved
from orcinus.core.view import Limits
from orcinus.observe.ledger import Account, BookedIteration, Ledger
from orcinus.observe.timeline import Stage, TimelineObserver
from orcinus.serve.ended_request import tbt
from orcinus.serve.engine_loop import _Launches
from orcinus.serve.ledgers import Ledgers
from orcinus.serve.messages import Ending, EngineOutput, ScheduledBatch
from orcinus.serve.supervisor import Death
from tests.examples import examples
from tests.serve.conftest import serving
from tests.serve.in_process import serving_in_process
from tests.waiting import wait_until
from tests.worlds import GuessingDrafter, Job, World, build_world, random_jobs, run

LIMITS = Limits(2, 64, 40)


class Reporter(Observer):
    """Tells ledgers what the engine's loop would tell the server."""

    def __init__(self) -> None:
        self.ledgers, self.by_name = Ledgers(), dict[str, Ledger]()
        self.batches = list[ScheduledBatch]()
        self._launches = _Launches()

    def on_submit(self, submitted: Submitted) -> None:
        self.ledgers.open([submitted.request_id], [len(submitted.prompt)], lambda name: submitted.at)
        self.by_name[submitted.request_id] = self.ledgers._live[submitted.request_id]

    def on_batch(self, batch: Batch, unserved: Unserved, now: float) -> None:
        self._launches.on_batch(batch, unserved, now)

    def on_step(self, batch: Batch, result: BatchResult, now: float) -> None:
        self._launches.on_step(batch, result, now)

    def on_events(self, events: Sequence[Event]) -> None:
        tokens = [event for event in events if isinstance(event, Token)]
        endings = [Ending(event) for event in events if isinstance(event, Finished)]
        self.batches += (batches := self._launches.take())
        self.ledgers.on_iteration(0, EngineOutput(0.0, tokens, endings, batches))


def reported(world: World, jobs: list[Job]) -> Reporter:
    """What the ledgers say when all jobs have ended."""
    reporter = Reporter()
    world.engine.observers.append(reporter)
    run(world, jobs)
    assert world.engine.dropped_observers == []
    return reporter


def job(prompt: int = 4, output: int = 4, when: int = 0) -> Job:
    return Job(when, tuple(range(prompt)), SamplingParams(max_tokens=output, seed=0))


@examples(60)
@given(st.sampled_from(list(itertools.product(POLICIES, KV_MANAGERS, (1, 2)))), st.integers(0, 2**32), st.booleans())
def test_the_accounts_add_up_to_the_time_of_the_request(world: tuple[str, str, int], seed: int, drafts: bool) -> None:
    policy, kv, depth = world
    drafter = GuessingDrafter(seed) if drafts and depth == 1 else None
    built, timelines = build_world(make_policy(policy), kv, depth=depth, drafter=drafter, num_blocks=12), TimelineObserver()
    built.engine.observers.append(timelines)
    reporter = reported(built, random_jobs(random.Random(seed), 20, cancels=True))
    for name, ledger in reporter.by_name.items():
        timeline, ending = timelines.get(name), built.record.endings[name]
        assert timeline is not None
        assert (ledger.ended, ledger.finish) == (ending.at, ending.reason)
        assert sum(ledger.seconds.values()) == pytest.approx(ending.at - ledger.arrival)
        assert all(seconds >= 0 for seconds in ledger.seconds.values())
        assert ledger.output_tokens == timeline.output_tokens == len(ledger.gaps) + bool(timeline.output_tokens)
        assert ledger.cached_tokens == timeline.cached_tokens or not ledger.prefill_chunks
        assert ledger.preemptions == timeline.preemptions == len(ledger.interruptions)
        assert bool(ledger.seconds[Account.RECOMPUTE]) <= bool(ledger.preemptions)
        mine = sum(chunk.id == name for batch in reporter.batches for chunk in batch.chunks)
        assert (
            ledger.prefill_chunks + ledger.decode_iterations <= mine <= timeline.prefill_iterations + timeline.decode_iterations
        )
        if not ledger.preemptions and ledger.finish is not Finish.CANCELLED:  # in its first iteration, perhaps
            assert ledger.seconds[Account.QUEUE] == pytest.approx(timeline.seconds[Stage.QUEUED])
            assert ledger.recomputed_tokens == 0


@examples(40)
@given(st.sampled_from(list(POLICIES)), st.integers(0, 2**32))
def test_stalls_are_the_iterations_of_other_prompts_between_two_tokens(policy: str, seed: int) -> None:
    """The long way round: all batches between two iterations of each request."""
    reporter = reported(build_world(make_policy(policy), "paged", num_blocks=100), random_jobs(random.Random(seed), 20))
    for name, ledger in reporter.by_name.items():
        stalled, since_last = 0.0, 0.0
        for batch in reporter.batches:
            own = next((chunk for chunk in batch.chunks if chunk.id == name), None)
            if own is not None:
                stalled += since_last if own.start >= ledger.prompt_tokens else 0.0
                since_last = 0.0
            elif any(chunk.prefill for chunk in batch.chunks):
                since_last += batch.returned - batch.at
        assert ledger.seconds[Account.STALLED] == pytest.approx(stalled)


def ledgers(world: World, *jobs: Job) -> list[Ledger]:
    return list(reported(world, list(jobs)).by_name.values())


def test_decodes_wait_while_prompts_go_first_and_share_iterations_otherwise() -> None:
    first, _ = ledgers(build_world(PrefillFirst(), "paged", limits=LIMITS), job(4, 9), job(4, 2, when=3))
    assert first.seconds[Account.STALLED] > 0 == first.seconds[Account.DECODE_BESIDE_PROMPTS]
    first, _ = ledgers(build_world(StallFree(64), "paged", limits=LIMITS), job(4, 9), job(4, 2, when=3))
    assert first.seconds[Account.DECODE_BESIDE_PROMPTS] > 0 == first.seconds[Account.STALLED]


def test_a_prompt_in_chunks_is_booked_chunk_by_chunk() -> None:
    (one,) = ledgers(build_world(StallFree(8), "paged", limits=LIMITS), job(20, 2))
    assert [(chunk.start, chunk.tokens) for chunk in one.chunks] == [(0, 8), (8, 8), (16, 4)]
    assert one.seconds[Account.PREFILL] == sum(chunk.returned - chunk.launched for chunk in one.chunks)
    assert one.seconds[Account.BETWEEN_CHUNKS] == sum(chunk.waited for chunk in one.chunks[1:]) > 0
    assert one.seconds[Account.QUEUE] == one.chunks[0].waited


def test_a_preempted_request_waits_and_computes_again_what_it_lost() -> None:
    _, second = ledgers(build_world(Orca(), "paged", num_blocks=8, limits=LIMITS), job(12, 14), job(12, 14))
    assert second.seconds[Account.PREEMPTED] > 0 < second.seconds[Account.RECOMPUTE]
    assert second.recomputed_tokens >= 12
    (interruption,) = second.interruptions
    assert interruption.account is Account.PREEMPTED
    assert interruption.resumed is not None
    recovered = second.recovered(interruption)
    assert recovered is not None
    assert interruption.began < interruption.resumed < recovered


def test_a_request_goes_on_after_its_engine_died() -> None:
    """Two tokens at one engine, the death of that engine during the third, and the rest at another."""
    ledger = Ledger(arrival=0.0, prompt_tokens=5)
    ledger.ran(0, 5, True, BookedIteration(0, 1.0, 2.0, 0.0, 1.0))
    ledger.tokens.append(2.0)
    ledger.ran(5, 1, False, BookedIteration(0, 2.0, 3.0, 1.0, 1.0))
    ledger.tokens.append(3.0)
    ledger.lose_engine(3.5)
    ledger.ran(0, 7, True, BookedIteration(1, 6.0, 8.0, 40.0, 42.0))
    ledger.tokens.append(8.0)
    ledger.end(8.0, Finish.LENGTH)
    booked = {account: seconds for account, seconds in ledger.seconds.items() if seconds}
    expected = {Account.QUEUE: 1, Account.PREFILL: 1, Account.DECODE: 1, Account.RESTART: 3, Account.RECOMPUTE: 2}
    assert booked == expected
    assert (ledger.restarts, ledger.recomputed_tokens, ledger.replica) == (1, 6, 1)
    assert tbt(ledger) == {"p50": 1000, "p99": 5000, "max": 5000}


def test_a_death_in_the_queue_ends_the_time_in_the_queue() -> None:
    kept = Ledgers()
    kept.open(["r"], [5], lambda name: 0.0)
    ledger = kept._live["r"]
    kept.on_death(Death(0, "gone", ("r", "of another server"), 0.0), 2.0)
    ledger.ran(0, 5, True, BookedIteration(0, 5.0, 6.0, 0.0, 1.0))
    assert (ledger.seconds[Account.QUEUE], ledger.seconds[Account.RESTART], ledger.seconds[Account.PREFILL]) == (2, 3, 1)
    assert ledger.recomputed_tokens == 0


def test_the_access_log_has_the_ledger_of_every_answer(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with serving_in_process("--simulate", "opt-13b", "--speed", "20", "--access-log", str(path)) as server:
        secret = "nothing of this may be logged"
        body: dict[str, Any] = {"prompt": [secret * 40, secret], "max_tokens": 20, "n": 2, "ignore_eos": True}
        done = server.http.post("/v1/completions", json=body, headers={"X-Request-ID": "one"})
        server.http.post("/v1/completions", json={"prompt": "x", "model": "no such"}, headers={"X-Request-ID": "two"})
        server.http.get("/v1/models", headers={"X-Request-ID": "three"})
    text = path.read_text()
    assert secret not in text
    lines = {line["request_id"]: line for line in map(json.loads, text.splitlines())}
    line, usage = lines["one"], done.json()["usage"]
    assert (line["response_id"], line["model"], line["adapter"]) == (done.json()["id"], "opt-13b", None)
    assert line["completion_tokens"] == usage["completion_tokens"] == 80
    for answer in line["answers"]:
        assert sum(answer["accounts_ms"].values()) == pytest.approx(line["duration_ms"], abs=0.02)
        assert (answer["finish"], answer["output_tokens"], answer["decode_iterations"]) == ("length", 20, 19)
        assert answer["tbt_ms"]["p50"] <= answer["tbt_ms"]["p99"] <= answer["tbt_ms"]["max"]
        assert answer["accounts_ms"]["prepare"] < answer["ttft_ms"] + answer["accounts_ms"]["prepare"] < line["duration_ms"]
        assert sum(tokens for tokens, *_ in answer["chunks"]) == answer["prompt_tokens"] - answer["cached_tokens"]
    assert (lines["two"]["status"], lines["two"]["error"]) == (404, "model_not_found")
    assert not {"answers", "model"} & (lines["two"].keys() | lines["three"].keys())


@pytest.mark.full
def test_the_ledger_of_a_request_whose_engine_was_killed_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with serving("--simulate", "opt-13b", "--access-log", str(path)) as server:
        body = {"prompt": [5] * 40, "max_tokens": 60, "ignore_eos": True, "stream": True}
        with server.http.stream("POST", "/v1/completions", json=body) as answer:
            lines = answer.iter_lines()
            while "data" not in next(lines):  # it decodes
                pass
            pid = server.process.pid
            os.kill(int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]), signal.SIGKILL)
            assert list(lines)[-2:] == ["data: [DONE]", ""]
        wait_until(lambda: path.read_text())
        line = json.loads(path.read_text())
    (ledger,) = line["answers"]
    assert (ledger["finish"], ledger["output_tokens"], ledger["restarts"]) == ("length", 60, 1)
    assert ledger["recomputed_tokens"] >= 40
    assert ledger["accounts_ms"]["restart"] > 200
    assert ledger["accounts_ms"]["recompute"] > 0
    assert sum(ledger["accounts_ms"].values()) == pytest.approx(line["duration_ms"], abs=0.02)
