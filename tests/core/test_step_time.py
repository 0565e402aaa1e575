"""The prediction of iteration times: what it learns, how far it is trusted, and that it never says less than nothing."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import Batch, Chunk, pairs
from orcinus.core.step_time import StepTime
from tests.examples import examples


def batch(*shapes: tuple[int, int]) -> Batch:
    """Chunks of (start, tokens)."""
    return Batch(1, tuple(Chunk(f"r{i}", (0,) * tokens, start) for i, (start, tokens) in enumerate(shapes)))


def mixed(rng: random.Random) -> Batch:
    decodes = [(rng.randint(1, 2000), 1) for _ in range(rng.randint(0, 16))]
    prompts = [(rng.choice([0, 256, 512]), rng.randint(1, 400)) for _ in range(rng.randint(0 if decodes else 1, 2))]
    return batch(*decodes, *prompts)


def seconds(one: Batch) -> float:
    return 4e-3 + 8e-5 * one.num_tokens + 3e-8 * one.num_pairs + 2e-4 * len(one.chunks)


def test_pairs_are_what_attention_computes() -> None:
    assert pairs(0, 1) == 1
    assert pairs(7, 1) == 8  # a decode
    assert pairs(0, 4) == 1 + 2 + 3 + 4
    assert pairs(2, 3) == 3 + 4 + 5
    assert batch((7, 1), (0, 4)).num_pairs == 18


def test_it_finds_the_coefficients_of_a_linear_machine() -> None:
    model, rng = StepTime(), random.Random(0)
    for _ in range(300):
        one = mixed(rng)
        model.learn(one, seconds(one))
    for _ in range(50):
        one = mixed(rng)
        predicted = model.predict(one.num_tokens, one.num_pairs, len(one.chunks))
        assert abs(predicted / seconds(one) - 1) < 0.03
    assert model.error < 0.03
    assert model.margin < 0.002


def test_the_error_is_the_median_of_how_far_predictions_were_off() -> None:
    """Of a machine that takes twice as long in every other iteration, which no coefficient explains."""
    model = StepTime()
    for step in range(201):
        model.learn(batch((0, 64)), 0.01 * (1 + step % 2))
    assert 0.2 < model.error < 0.6


def test_it_follows_a_machine_that_changes() -> None:
    model, rng = StepTime(), random.Random(1)
    for step in range(900):
        one = mixed(rng)
        model.learn(one, seconds(one) * (1 if step < 300 else 2))
    one = mixed(rng)
    assert abs(model.predict(one.num_tokens, one.num_pairs, len(one.chunks)) / (2 * seconds(one)) - 1) < 0.1


@pytest.mark.parametrize("prompts", [1.0, 0.3])
def test_the_margin_covers_all_but_one_iteration_in_a_hundred(prompts: float) -> None:
    """Iterations without prompts are never at the limit, so with few prompts a smaller margin will do."""
    model, rng = StepTime(), random.Random(2)
    late, margins = 0, []
    for step in range(3000):
        one = batch((100, 1), (0, 200)) if rng.random() < prompts else batch((100, 1))
        took = seconds(one) * rng.uniform(0.8, 1.2)
        if step > 500:
            predicted = model.predict(one.num_tokens, one.num_pairs, len(one.chunks))
            late += one.num_tokens > 1 and took > predicted + model.margin
            margins.append(model.margin)
        model.learn(one, took)
    assert late / len(margins) < 0.015
    assert 0.1 < sum(margins) / len(margins) / seconds(batch((100, 1), (0, 200))) < 0.22


def test_lateness_is_forgotten_even_if_no_prompt_is_read_any_more() -> None:
    model, rng = StepTime(), random.Random(3)
    for _ in range(400):
        one = batch((100, 1), (0, 200))
        model.learn(one, seconds(one) * rng.choice([1, 1, 1, 3]))
    assert model.margin > 0.5 * seconds(batch((100, 1), (0, 200)))
    for _ in range(300):
        model.learn(batch((100, 1)), seconds(batch((100, 1))))
    assert model.margin == 0


def test_what_was_measured_leaves_out_one_iteration_in_a_hundred() -> None:
    model = StepTime()
    assert model.measured == 0
    for number in range(128):
        model.learn(batch((100, 1)), 9.0 if number == 60 else 0.01)
    assert model.measured == 0.01
    model.learn(batch((100, 1)), 5.0)
    assert model.measured == 5.0, "two of the last 128"
    for _ in range(128):
        model.learn(batch((100, 1)), 0.02)
    assert model.measured == 0.02


def test_a_cold_model_trusts_itself_for_twice_what_it_has_seen() -> None:
    model = StepTime()
    assert model.trusted_tokens == 0
    model.learn(batch((0, 16)), 0.01)
    assert model.trusted_tokens == 32


@examples(100)
@given(st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 600), st.floats(1e-6, 100)), min_size=1, max_size=60))
def test_whatever_it_is_told_predictions_are_numbers_that_grow_with_the_work(steps: list[tuple[int, int, float]]) -> None:
    model = StepTime()
    for start, tokens, took in steps:
        model.learn(batch((start, tokens)), took)
    assert all(value >= 0 for value in model.coefficients)
    assert 0 <= model.predict(1, 1, 1) <= model.predict(100, 1000, 10) < float("inf")
    assert model.error >= 0
    assert model.margin >= 0
