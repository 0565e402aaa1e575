"""Costs from recorded iterations: what was put in comes out again, noise or not; too little to tell from is said."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.view import Limits
from orcinus.cost.calibration import Calibration, read_calibration
from orcinus.cost.fitted import (
    FEATURES,
    KEPT,
    SPELL,
    FitError,
    FittedCost,
    IterationSample,
    features,
    fit,
    least_squares,
)
from orcinus.cost.work import IterationWork, work_of_chunks
from orcinus.errors import ConfigError
from tests.examples import examples

Chunk = tuple[int, int, bool]
SECONDS = (2e-3, 5e-4, 8e-4, 2e-4, 3e-5, 4e-5, 1e-5, 6e-7, 1e-4, 1e-7, 5e-7, 6e-3)
KNOWN = FittedCost(dict(zip(FEATURES, SECONDS, strict=True)), 1000, FitError(0.0, 0.0))


def random_work(rng: random.Random) -> IterationWork:
    """Up to eight decodes, and up to two chunks of prompts that begin anywhere; not all of them end their prompt."""
    decodes: list[Chunk] = [(rng.randrange(2000), 1, True) for _ in range(rng.randrange(9))]
    prompts = [
        (rng.choice((0, rng.randrange(1000))), rng.randrange(2, 500), rng.random() < 0.5) for _ in range(rng.randrange(3))
    ]
    return work_of_chunks([*decodes, *prompts] or [(0, 64, True)])._replace(paused=rng.random() < 0.1)


def measured(count: int, noise: Callable[[random.Random], float] = lambda rng: 1.0, seed: int = 0) -> list[IterationSample]:
    """Iterations of a machine whose costs are `KNOWN`."""
    rng = random.Random(seed)
    works = [random_work(rng) for _ in range(count)]
    return [IterationSample(work, KNOWN.stages(work)[0] * noise(rng)) for work in works]


def test_known_costs_are_recovered() -> None:
    found = fit(measured(2000))
    assert found.seconds == {name: pytest.approx(seconds, rel=1e-3) for name, seconds in KNOWN.seconds.items()}
    assert found.iterations == 2000
    assert found.error.p90 < 1e-3


def noisy(count: int) -> tuple[FittedCost, list[float]]:
    """The fit of iterations of which some are slow, and how slow each was."""
    usual = [random.Random(number).uniform(0.97, 1.03) for number in range(count)]
    noise = [each * (3.0 if number % 100 < 3 else 1.0) for number, each in enumerate(usual)]
    samples = [each._replace(seconds=each.seconds * noise[number]) for number, each in enumerate(measured(count))]
    return fit(samples), noise


def test_factors_are_the_iterations_over_their_predictions_in_order() -> None:
    found, noise = noisy(1500)
    shape = [factor / truth for factor, truth in zip(found.factors, noise, strict=True)]
    assert max(shape) / min(shape) < 1.1, "slow iterations are where they were"
    assert sum(min(factor, 2.0) for factor in found.factors) / 1500 == pytest.approx(1.0, abs=0.02)
    assert max(found.factors) > 2.5, "outliers stay"


def test_factors_of_a_long_measurement_are_spells_from_all_of_it() -> None:
    found, noise = noisy(3 * KEPT + 7)
    assert len(found.factors) == KEPT
    spells, begins = [found.factors[at : at + SPELL] for at in range(0, KEPT, SPELL)], range(0, len(noise) - SPELL + 1, SPELL)
    for number, spell in enumerate(spells):
        share = number / (len(spells) - 1)
        begin = begins[round(share * (len(begins) - 1))]
        shape = [factor / truth for factor, truth in zip(spell, noise[begin : begin + SPELL], strict=True)]
        assert max(shape) / min(shape) < 1.1, "consecutive iterations"


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_who_slow_some_iterations_down_only_raise_the_mean(seed: int) -> None:
    """The costs keep their proportions, and all of them grow as the iterations do on average, late ones counted twice."""
    found = fit(measured(800, lambda rng: 5.0 if rng.random() < 0.2 else rng.uniform(0.95, 1.05), seed))
    assert found.error.p90 > 0.5, "the error says how noisy the machine was"
    for each in measured(50, seed=seed + 100):
        assert found.stages(each.work)[0] == pytest.approx(1.2 * each.seconds, rel=0.1)


@examples(20)
@given(st.integers(0, 2**32))
def test_more_work_never_takes_less_time(seed: int) -> None:
    rng = random.Random(seed)
    found = fit(measured(200, lambda rng: rng.uniform(0.3, 3.0), seed))
    assert min(found.seconds.values()) >= 0
    work = random_work(rng)
    (before,), (after,) = found.stages(work), found.stages(work._replace(tokens=work.tokens + 1, context=work.context + 7))
    assert before <= after


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 6))
def test_least_squares_without_negatives_are_optimal(seed: int, rows: int, columns: int) -> None:
    """The conditions of Karush, Kuhn and Tucker: no coefficient can move to a better place that it is allowed to take."""
    rng = np.random.default_rng(seed)
    matrix, target = rng.normal(size=(rows, columns)), rng.normal(size=rows)
    found = least_squares(matrix, target)
    gradient = matrix.T @ (matrix @ found - target)
    assert (found >= 0).all()
    assert (gradient > -1e-6).all()
    assert np.abs(gradient[found > 0]).max(initial=0.0) < 1e-6


def test_what_is_counted() -> None:
    work = work_of_chunks([(9, 1, True), (19, 1, True), (0, 4, False), (10, 2, True)])
    assert dict(zip(FEATURES, features(work), strict=True)) == {
        "iteration": 1,
        "decoding": 1,
        "prompting": 1,
        "beginning": 1,
        "token": 8,
        "request": 4,
        "sample": 3,
        "context": 30,
        "prompt": 2,
        "pair": 10 + 23,
        "copied": 12,
        "paused": 0,
    }


def alike(chunks: Sequence[Chunk]) -> list[IterationSample]:
    return [IterationSample(work_of_chunks(chunks), 0.01)] * 200


@pytest.mark.parametrize(
    ("iterations", "said"),
    [
        (measured(99), "at least 100 iterations, and here are 99"),
        (alike([(0, 64, True)]), "too much alike to tell what a token costs"),
        (alike([(5, 1, True)] * 4), "too much alike"),
        ([each for each in measured(900) if not each.work.prompts], "what a (token|pair) costs"),
        ([each for each in measured(2000) if not each.work.decodes], "what a context costs"),
        ([IterationSample(each.work, 0.0) for each in measured(200)], "more than 0 seconds"),
    ],
)
def test_too_little_to_tell_from(iterations: list[IterationSample], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        fit(iterations)


CALIBRATION = Calibration(
    model="m",
    machine="a machine",
    device="cpu",
    dtype="float32",
    attention="cpu",
    limits=Limits(8, 1024, 512),
    block_size=16,
    num_blocks=100,
    cost=KNOWN,
)


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    CALIBRATION.write(file)
    assert read_calibration(file) == CALIBRATION
    with pytest.raises(ConfigError, match="cannot write"):
        CALIBRATION.write(tmp_path / "no" / "c.json")


Edit = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda c: [], "no calibration of version 3"),
        (lambda c: c | {"version": 4}, "no calibration of version 3"),
        (lambda c: c | {"kind": "record"}, "no calibration of version 3"),
        (lambda c: c | {"limits": None}, "is damaged"),
        (lambda c: c | {"limits": c["limits"] | {"max_batch_size": 0}}, "max_batch_size"),
        (lambda c: c | {"num_blocks": 0}, "0 blocks of 16 tokens"),
        (lambda c: c | {"model": 7}, "names its model"),
        (lambda c: c | {"colour": "red"}, "is damaged"),
        (lambda c: c | {"cost": {}}, "is damaged"),
        (lambda c: c | {"cost": c["cost"] | {"seconds": []}}, "is damaged"),
        (lambda c: c | {"cost": c["cost"] | {"seconds": c["cost"]["seconds"] | {"token": -1.0}}}, "of at least 0"),
        (lambda c: c | {"cost": c["cost"] | {"seconds": c["cost"]["seconds"] | {"token": "1"}}}, "is damaged"),
        (lambda c: c | {"cost": c["cost"] | {"seconds": c["cost"]["seconds"] | {"token": float("nan")}}}, "of at least 0"),
        (lambda c: c | {"cost": c["cost"] | {"seconds": {"token": 1.0}}}, "for each of iteration"),
    ],
)
def test_damaged_files(edit: Edit, said: str, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    CALIBRATION.write(file)
    file.write_text(json.dumps(edit(json.loads(file.read_text()))))
    with pytest.raises(ConfigError, match=said) as raised:
        read_calibration(file)
    assert "\n" not in str(raised.value)
    assert str(file) in str(raised.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the calibration"):
        read_calibration(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_bytes(b"\xff{")
    with pytest.raises(ConfigError, match="no JSON file"):
        read_calibration(tmp_path / "bad.json")


def test_costs_know_no_order_of_their_file(tmp_path: Path) -> None:
    """Files are edited by hand and by programs that sort."""
    file = tmp_path / "c.json"
    CALIBRATION.write(file)
    file.write_text(json.dumps(json.loads(file.read_text()), sort_keys=True))
    work = IterationWork(10, 1, 0, 0, ((0, 10),), 1)
    assert read_calibration(file).cost.stages(work) == KNOWN.stages(work)
    assert replace(KNOWN, seconds=dict(reversed(KNOWN.seconds.items()))).stages(work) == KNOWN.stages(work)
