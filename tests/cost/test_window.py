"""A sliding window: a token attends to a limited number of tokens (Mistral 7B, section 2)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orcinus.core.batch import pairs
from orcinus.cost.architecture import ARCHITECTURES, from_config
from orcinus.cost.attention import pairs_within
from orcinus.cost.work import IterationWork

MISTRAL = {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32, "vocab_size": 32000}


@given(start=st.integers(0, 60), tokens=st.integers(1, 60), window=st.integers(1, 80))
def test_pairs_are_those_that_counting_finds(start: int, tokens: int, window: int) -> None:
    assert pairs_within(start, tokens, window) == sum(min(place + 1, window) for place in range(start, start + tokens))
    assert pairs_within(start, tokens, None) == pairs(start, tokens)


@given(contexts=st.lists(st.integers(1, 60), min_size=1), times=st.integers(0, 20), window=st.integers(1, 50))
def test_decodes_grow_up_to_the_window(contexts: list[int], times: int, window: int) -> None:
    first = IterationWork(len(contexts), len(contexts), len(contexts), sum(contexts), (), len(contexts), tuple(contexts))
    later = first.repeated(times)
    assert later.attended(None) == later.context == sum(contexts) + times * len(contexts)
    assert later.attended(window) == sum(min(context + times, window) for context in contexts)


def test_work_that_does_not_tell_its_decodes_apart_has_the_window_for_each() -> None:
    assert IterationWork(2, 2, 2, 9000, (), 2).attended(4096) == 8192
    assert IterationWork(2, 2, 2, 5000, (), 2).attended(4096) == 5000


def test_a_config_says_whether_every_layer_has_a_window() -> None:
    assert ARCHITECTURES["mistral-7b"].window == 4096
    assert from_config(MISTRAL | {"sliding_window": 4096}, "v1").window == 4096
    assert from_config(MISTRAL | {"sliding_window": None}, "v2").window is None
    assert from_config(MISTRAL | {"sliding_window": 4096, "use_sliding_window": False}, "qwen").window is None
    assert from_config(MISTRAL | {"sliding_window": 4096, "layer_types": []}, "gemma").window is None
