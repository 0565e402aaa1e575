"""Sampling: distributions, filters, penalties, and independence of everything around a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.executor_state import Row
from orcinus.core.request import FinishCode
from orcinus.core.sampling_params import SamplingParams
from orcinus.runtime.random import philox, uniform
from orcinus.runtime.sampling import choose, sample
from tests.examples import examples
from tests.product import part
from tests.seam import row as drawn

PROBABILITIES = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])


def wish(position: int = 1, history: tuple[int, ...] = (0,), prompt_length: int = 1, **params: Any) -> Row:
    history = history + (0,) * (prompt_length - len(history))
    return drawn(history, prompt_length, SamplingParams(**{"seed": 0, **params}), position)


def chosen(rows: torch.Tensor, chunks: list[Row]) -> list[int]:
    return choose(rows.clone(), chunks).sampled.tokens


def frequencies(draws: int = 10_000, **params: Any) -> torch.Tensor:
    """How often each of the five tokens is drawn."""
    chunks = [wish(position, **params) for position in range(1, draws + 1)]
    tokens = chosen(PROBABILITIES.log().repeat(draws, 1), chunks)
    return torch.bincount(torch.tensor(tokens), minlength=5) / draws


def test_philox_gives_the_published_answers() -> None:
    """Known-answer vectors of the Random123 library for philox4x32-10."""
    zero, ones = np.array([0], np.uint64), np.array([2**64 - 1], np.uint64)
    assert [hex(word) for word in philox(zero, zero)[0]] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]
    assert philox(ones, zero).tolist() != philox(zero, ones).tolist()


def test_uniform_numbers_are_uniform_and_depend_on_seed_and_position_alone() -> None:
    many = uniform([7] * 50_000, range(50_000))
    assert 0 <= many.min() < many.max() < 1
    assert np.abs(np.histogram(many, bins=20, range=(0, 1))[0] - 2500).max() < 250
    assert uniform([7, 8], [5, 5]).tolist() == [many[5], uniform([8], [5])[0]]
    assert uniform([-1], [0]) == uniform([2**64 - 1], [0])


def test_greedy_takes_the_most_likely() -> None:
    assert chosen(PROBABILITIES.log()[None], [wish(temperature=0)]) == [0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_that_are_read_once_get_the_same_tokens(dtype: torch.dtype) -> None:
    """Greedy rows beside others; of equal logits the first one is taken, wherever it stands."""
    logits = torch.randint(-40, 40, (40, 131), generator=torch.Generator().manual_seed(0)).to(dtype)
    rows = [wish(place, temperature=place % 3 and 0.5, logprobs=1 if place % 5 == 0 else None) for place in range(1, 41)]
    rows[7] = wish(8, temperature=0, logit_bias={3: 99})
    expected, found = sample(logits.float(), rows), choose(logits.clone(), rows).sampled
    assert found == expected
    assert found.tokens[7] == 3


def test_draws_follow_the_distribution() -> None:
    assert (frequencies() - PROBABILITIES).abs().max() < 0.015


def test_temperature_sharpens_and_flattens() -> None:
    for temperature in (0.5, 2.0):
        wanted = torch.softmax(PROBABILITIES.log() / temperature, 0)
        assert (frequencies(temperature=temperature) - wanted).abs().max() < 0.015


@pytest.mark.parametrize(
    ("params", "kept"),
    part(
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.71}, [0, 1, 2]),
        ({"min_p": 0.3}, [0, 1, 2]),
        ({"top_p": 0.5, "min_p": 0.3}, [0, 1]),  # half of the 0.85 that min_p leaves is more than 0.4
        full=[
            ({"top_k": 5}, [0, 1, 2, 3, 4]),
            ({"top_p": 0.69}, [0, 1]),
            ({"top_p": 0.01}, [0]),
            ({"top_p": 1e-300}, [0]),
            ({"top_k": 3, "top_p": 0.8}, [0, 1]),
            ({"top_k": 99, "min_p": 0.9}, [0]),
            ({"top_p": 0.45, "min_p": 0.3}, [0]),
        ],
    ),
)
def test_filters_keep_the_likely_and_renormalise(params: dict[str, Any], kept: list[int]) -> None:
    wanted = torch.zeros(5)
    wanted[kept] = PROBABILITIES[kept] / PROBABILITIES[kept].sum()
    assert (frequencies(**params) - wanted).abs().max() < 0.015


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 1}, [1, 3]),  # values below the k-th go, equal ones stay
        ({"top_k": 2}, [1, 3]),
        ({"top_k": 3}, [1, 3, 0, 2, 4]),
        ({"top_k": 3, "top_p": 0.7}, [1, 3, 0]),  # top_p alone cuts through equal ones, in the order of their ids
        ({"top_k": 3, "min_p": 0.6}, [1, 3]),
    ],
)
def test_top_k_keeps_what_is_as_likely_as_the_kth(params: dict[str, Any], kept: list[int]) -> None:
    logits = torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0, 0.0, 0.0])
    chunks = [wish(position, **params) for position in range(1, 400)]
    assert set(chosen(logits.repeat(len(chunks), 1), chunks)) == set(kept)


ANY_PARAMS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.0, 0.7, 1.3]),
        "top_k": st.sampled_from([0, 1, 4]),
        "top_p": st.sampled_from([1.0, 0.8]),
        "min_p": st.sampled_from([0.0, 0.1]),
        "repetition_penalty": st.sampled_from([1.0, 1.5]),
        "presence_penalty": st.sampled_from([0.0, 1.0]),
        "seed": st.integers(0, 9),
    }
)


@examples(60)
@given(st.lists(ANY_PARAMS, min_size=1, max_size=6), st.integers(0, 1000))
def test_a_row_never_depends_on_its_neighbours(many: list[dict[str, Any]], seed: int) -> None:
    rows = torch.randn(len(many), 40, generator=torch.Generator().manual_seed(seed)).bfloat16().float()  # with ties
    chunks = [wish(3, (1, 2, 3), 1, **params) for params in many]
    alone = [chosen(row[None], [one])[0] for row, one in zip(rows, chunks, strict=True)]
    assert chosen(rows, chunks) == alone


def test_penalties_follow_their_formulas() -> None:
    logits = torch.tensor([[2.0, 1.9, -1.0, 0.0]])
    history, prompt = (0, 1, 2, 1, 1), 2  # prompt: 0 1; output: 2 1 1
    assert chosen(logits, [wish(5, history, prompt, temperature=0, repetition_penalty=1.3)]) == [0]  # 1.54 > 1.46
    assert chosen(logits, [wish(5, history, prompt, temperature=0, frequency_penalty=1.0)]) == [0]  # token 1 lost 2
    assert chosen(logits, [wish(5, history, prompt, temperature=0, presence_penalty=-1.0)]) == [1]  # token 1 gained 1
    assert chosen(logits, [wish(5, (0, 0), 2, temperature=0, repetition_penalty=2.0)]) == [1]  # the prompt counts here
    assert chosen(logits, [wish(5, (0, 0), 2, temperature=0, presence_penalty=2.0)]) == [0]  # and not here


def test_bias_forces_and_forbids() -> None:
    logits = PROBABILITIES.log()[None]
    assert chosen(logits, [wish(temperature=0, logit_bias={4: 100.0})]) == [4]
    assert chosen(logits, [wish(temperature=0, logit_bias={0: -100.0})]) == [1]


def test_stops_are_forbidden_until_min_tokens() -> None:
    logits, params = PROBABILITIES.log()[None], {"temperature": 0, "stop_token_ids": (0,), "min_tokens": 2}
    assert chosen(logits, [wish(position=4, prompt_length=4, **params)]) == [1]
    assert chosen(logits, [wish(position=5, prompt_length=4, **params)]) == [1]
    assert chosen(logits, [wish(position=6, prompt_length=4, **params)]) == [0]


def test_logprobs_are_the_models_own_and_ranked() -> None:
    (plain,) = sample(PROBABILITIES.log()[None], [wish(temperature=0, logprobs=2, logit_bias={2: 50.0})]).logprobs.values()
    assert plain is not None
    assert plain.rank == 3
    assert plain.logprob == pytest.approx(np.log(0.15), abs=1e-6)
    assert [token for token, _ in plain.top] == [0, 1]


@pytest.mark.parametrize("top", [0, 1, 2, 3, 8, 20])
@pytest.mark.parametrize("temperature", [0, 1.0])
def test_of_equally_likely_tokens_the_chosen_one_stands_first(temperature: float, top: int) -> None:
    levels = torch.randint(3, (60, 12), generator=torch.Generator().manual_seed(top)).float()
    sampled = sample(levels.clone(), [wish(place, temperature=temperature, logprobs=top) for place in range(1, 61)])
    for row, token, found in zip(levels, sampled.tokens, sampled.logprobs.values(), strict=True):
        by_id = sorted(range(12), key=lambda other: (-row[other].item(), other != token, other))
        ranked = [row[other].item() for other, _ in found.top]
        assert ranked == [row[other].item() for other in by_id[:top]]
        assert len({other for other, _ in found.top}) == min(top, 12)
        assert found.rank == by_id.index(token) + 1
        if found.rank <= top:
            assert found.top[found.rank - 1] == (token, found.logprob)


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("logprobs", [1, None])
def test_a_row_that_is_not_finite_fails_alone(poison: float, logprobs: int | None) -> None:
    rows = PROBABILITIES.log().repeat(3, 1)
    rows[1, 3] = poison
    chunks = [wish(temperature=t, logprobs=logprobs) for t in (0, 0, 1)]
    sampled = choose(rows.clone(), chunks).sampled
    assert list(sampled.errors) == [1]
    assert sampled.tokens[2] == chosen(PROBABILITIES.log()[None], [chunks[2]])[0]


def test_parameters_that_forbid_every_token_fail_their_row_alone() -> None:
    rows = PROBABILITIES.log().repeat(2, 1)
    forbidding = wish(position=2, prompt_length=2, min_tokens=2, stop_token_ids=(0, 1, 2, 3, 4))
    sampled = sample(rows, [forbidding, wish(temperature=0)])
    assert list(sampled.errors) == [0]
    assert sampled.errors[0].code is FinishCode.ALL_FORBIDDEN
    assert sampled.tokens[1] == 0


def test_a_seed_repeats_its_draws() -> None:
    logits = torch.zeros(1, 1000)
    draws = [chosen(logits, [wish(position, seed=3)])[0] for position in range(1, 30)]
    assert draws == [chosen(logits, [wish(position, seed=3)])[0] for position in range(1, 30)]
    assert len(set(draws)) > 20
    assert draws != [chosen(logits, [wish(position, seed=4)])[0] for position in range(1, 30)]
