"""A real run, recorded, happens again in the simulator: the same batches and the same events, in the same order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orcinus.core.request import Request
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.view import Limits
from orcinus.llm import LLM
from orcinus.workload.arrival import Arrival
from tests.sim.recorded import RecordedCost
from tests.sim.worlds import run

LENGTHS = ((30, 12), (5, 40), (60, 3), (18, 25), (1, 1), (44, 30), (9, 18), (70, 9))  # prompt, answer


def record(path: Path, policy: str, kv: str) -> list[dict[str, Any]]:
    """Serve eight requests with the bundled model, some of them while others run; returns the lines of the record."""
    with LLM(policy=policy, kv=kv, max_batch_size=4, num_blocks=40, max_model_len=256, record=path) as llm:
        for number, (prompt, answer) in enumerate(LENGTHS):
            params = SamplingParams(max_tokens=answer, temperature=0, seed=0)
            tokens = tuple((number * 7 + place) % 100 + 5 for place in range(prompt))
            llm.engine.submit(Request(str(number), tokens, params, llm.engine.clock.now()))
            if number > 2:
                for _ in range(2):
                    llm.engine.step()
        while not llm.engine.idle:
            llm.engine.step()
    return [json.loads(line) for line in path.read_text().splitlines()]


def arrivals_of(lines: list[dict[str, Any]]) -> list[Arrival]:
    """The requests as a workload. They come just before the launch that was the first to know of them."""
    begin = next(line["at"] for line in lines if line["kind"] == "launch")
    arrivals = []
    for place, line in enumerate(lines):
        if line["kind"] == "submit":
            seen = next(later["at"] for later in lines[place:] if later["kind"] == "launch")
            prompt, answer = LENGTHS[int(line["id"])]
            arrivals.append(Arrival(max(0.0, seen - begin - 1e-7), prompt, answer))
    return arrivals


@pytest.mark.parametrize("kv", ["paged", "reservation"])
@pytest.mark.parametrize("policy", ["orca", "request-level", "prefill-first", "sarathi:chunk_size=32", "stall-free"])
def test_the_same_batches_and_the_same_order_of_events(tmp_path: Path, policy: str, kv: str) -> None:
    lines = record(tmp_path / "record.jsonl", policy, kv)
    limits = Limits(**lines[0]["limits"])
    diary, _, _ = run(
        arrivals_of(lines),
        RecordedCost(lines),
        policy=policy,
        kv=kv,
        limits=limits,
        num_blocks=lines[0]["num_blocks"],
        block_size=lines[0]["block_size"],
        repeat=False,
    )
    launches = [[tuple(chunk[:3]) for chunk in line["chunks"]] for line in lines if line["kind"] == "launch"]
    assert diary.iterations == launches
    assert [end[:2] for end in diary.ends] == [(line["id"], line["reason"]) for line in lines if line["kind"] == "finish"]
    assert len(launches) >= 40
    begin = next(line["at"] for line in lines if line["kind"] == "launch")
    last = [line["at"] for line in lines if line["kind"] == "launch"][-1]
    assert diary.started[-1] == pytest.approx(last - begin, abs=1e-5)


def test_another_machine_takes_other_times_and_so_other_decisions(tmp_path: Path) -> None:
    """The proof above is not empty: with iterations half as long, requests come in other iterations."""
    lines = record(tmp_path / "record.jsonl", "orca", "paged")
    arrivals = arrivals_of(lines)
    for line in lines:
        line["at"] = line.get("at", 0.0) / 2
    diary, _, _ = run(
        arrivals,
        RecordedCost([*lines, *lines]),
        limits=Limits(**lines[0]["limits"]),
        num_blocks=40,
        repeat=False,
    )
    assert diary.iterations != [[tuple(c[:3]) for c in line["chunks"]] for line in lines if line["kind"] == "launch"]
