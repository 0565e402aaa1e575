"""The demo's closing table prints no ratio that may be noise."""

from __future__ import annotations

import io
import random

import pytest
from rich.console import Console

from orcinus.cli.demo_comparison import comparison
from orcinus.cli.demo_run import Run
from orcinus.core.request import Finish
from orcinus.observe.latency import RequestTimes
from orcinus.observe.slots import Cell, Phase, SlotObserver


def run(policy: str, pace: float, iterations: int = 10) -> Run:
    """Two requests of four tokens, `pace` seconds apart."""
    made = Run(policy, ("a", "b"), SlotObserver(2))
    made.slots.columns = [(Cell("0", Phase.DECODE), None)] * iterations
    for number in range(2):
        times = [pace * (token + 1) for token in range(4)]
        made.latency.requests[str(number)] = RequestTimes(0.0, 3, times, times[-1], Finish.STOP)
        made.token_ids[number] = [1, 2, 3, 4]
    return made


def table(rounds: list[list[Run]]) -> dict[str, list[str]]:
    """Its rows, and under `notes` what follows them."""
    out = Console(file=io.StringIO(), width=160)
    out.print(comparison(rounds, out))
    lines = out.file.getvalue().splitlines()  # type: ignore[attr-defined]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    notes = [line for line in lines if line and line[0] not in "|+"]
    return {row[0]: row[1:] for row in rows} | {"notes": notes}


def rounds(policies: dict[str, float], repeats: int, seed: int = 0) -> list[list[Run]]:
    rng = random.Random(seed)
    return [[run(name, pace * rng.lognormvariate(0, 0.1)) for name, pace in policies.items()] for _ in range(repeats)]


def test_equal_policies_have_no_ratio() -> None:
    for seed in range(20):
        found = table(rounds({"orca": 0.01, "stall-free": 0.01, "sarathi": 0.01}, 7, seed))
        assert "x)" not in str([cells for name, cells in found.items() if name != "notes"])
    assert "Medians of 7 rounds in turn; without a ratio there is no difference beyond the noise." in found["notes"]


def test_a_difference_beyond_the_noise_has_one() -> None:
    found = table(rounds({"orca": 0.01, "stall-free": 0.005}, 7))
    assert found["TBT max"][1].endswith("x)")
    assert 0.4 < float(found["TBT max"][1].split("(")[1].rstrip("x)")) < 0.6
    assert 1.7 < float(found["output throughput"][1].split("(")[1].rstrip("x)")) < 2.4
    assert "x)" not in found["iterations"][1], "they are equal"


@pytest.mark.parametrize(("repeats", "said"), [(1, "One round"), (6, "Medians of 6 rounds in turn")])
def test_too_few_rounds_have_none(repeats: int, said: str) -> None:
    found = table(rounds({"orca": 0.01, "stall-free": 0.001}, repeats))
    assert "x)" not in found["TBT max"][1]
    assert f"{said}: to tell a difference from noise takes --repeats 7." in found["notes"]


def test_what_is_counted_needs_no_repeats() -> None:
    assert table([[run("orca", 0.01, 10), run("stall-free", 0.01, 12)]])["iterations"] == ["10", "12 (1.20x)"]


def test_answers_that_are_held_have_no_time_between_tokens() -> None:
    found = table(rounds({"request-level": 0.01, "orca": 0.001}, 7))
    assert found["TBT p99"][0] == "-"
    assert "x)" not in found["TBT p99"][1]
    assert "x)" in found["TTFT mean"][1]
    assert "request-level hands an answer out when its whole batch has ended." in found["notes"]


def test_one_policy_alone_is_compared_with_nothing() -> None:
    assert table([[run("orca", 0.01)]])["notes"] == ["The answers are the same, token by token."]
