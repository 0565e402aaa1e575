"""A request before anybody serves it says only what can be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from orcinus.errors import ConfigError
from orcinus.workload.arrival import Arrival


def test_it_asks_for_all_that_it_generates_unless_it_says_more() -> None:
    assert Arrival(0.0, 10, 5).asked_tokens == 5
    assert Arrival(0.0, 10, 5, max_tokens=100).asked_tokens == 100
    assert Arrival(0.0, 10, 5, max_tokens=100).total_tokens == 15


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"at": -1.0}, "must arrive at a finite number of seconds"),
        ({"at": math.nan}, "must arrive at a finite number of seconds"),
        ({"at": math.inf}, "must arrive at a finite number of seconds"),
        ({"prompt_tokens": 0}, "at least one token of prompt and of output, not 0 and 5"),
        ({"output_tokens": 0}, "at least one token"),
        ({"max_tokens": 0}, "max_tokens of a request must be at least 1"),
        ({"prefix": "system", "prefix_tokens": 11}, "a prefix of 11 tokens does not lie in a prompt of 10"),
        ({"blocks": (1, 2)}, "need block_tokens"),
        ({"blocks": (1,), "block_tokens": 16, "prefix": "x"}, "no prefix beside them"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Arrival(**{"at": 0.0, "prompt_tokens": 10, "output_tokens": 5} | wrong)
