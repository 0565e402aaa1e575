"""Sampling parameters: the ranges of vLLM and OpenAI, checked when they are made."""

from __future__ import annotations

import dataclasses
import math

import pytest

from orcinus.core.request import SamplingParams
from orcinus.errors import RequestError

BAD = [
    ("n", 0),
    ("n", 1000),
    ("max_tokens", 0),
    ("max_tokens", -1),
    ("max_tokens", 2.5),
    ("max_tokens", True),
    ("min_tokens", -1),
    ("min_tokens", 300),
    ("min_tokens", "1"),
    ("temperature", -0.1),
    ("temperature", math.nan),
    ("temperature", math.inf),
    ("temperature", "hot"),
    ("temperature", 10**400),
    ("stop", 5),
    ("stop", {"a": 1}),
    ("stop_token_ids", 5),
    ("stop_token_ids", "12"),
    ("logit_bias", [1]),
    ("logit_bias", {1: "x"}),
    ("logit_bias", {1: 1e39}),
    ("ignore_eos", "no"),
    ("top_k", -2),
    ("top_p", 0),
    ("top_p", 1.5),
    ("top_p", math.nan),
    ("min_p", -0.1),
    ("min_p", 1.1),
    ("repetition_penalty", 0),
    ("repetition_penalty", 1e-300),
    ("presence_penalty", 2.1),
    ("frequency_penalty", -2.1),
    ("logit_bias", {-1: 1.0}),
    ("logit_bias", {1: math.nan}),
    ("stop", ("",)),
    ("stop_token_ids", (-1,)),
    ("seed", 2**63),
    ("seed", "seven"),
    ("logprobs", -1),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(RequestError, match=name):
        SamplingParams(**{name: value})  # type: ignore[arg-type]


def test_forms_are_normalised() -> None:
    params = SamplingParams(stop="end", stop_token_ids=[3], logit_bias={5: 1})  # type: ignore[arg-type]
    assert params.stop == ("end",)
    assert params.stop_token_ids == (3,)
    assert dict(params.logit_bias) == {5: 1}


def test_none_means_none_as_in_vllm() -> None:
    params = SamplingParams(stop=None, stop_token_ids=None, logit_bias=None)  # type: ignore[arg-type]
    assert (params.stop, params.stop_token_ids, dict(params.logit_bias)) == ((), (), {})


def test_they_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SamplingParams().temperature = 0  # type: ignore[misc]


def test_a_tiny_temperature_is_greedy() -> None:
    assert SamplingParams(temperature=1e-9).greedy
    assert not SamplingParams(temperature=0.01).greedy
