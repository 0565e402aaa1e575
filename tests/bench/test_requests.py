"""What is asked, and what a prefix cache that starts empty can save of it."""

from __future__ import annotations

import pytest

from orcinus.bench.requests import BenchRequest, make_requests, shared_tokens
from orcinus.workload.workload import make_workload


@pytest.mark.parametrize(
    ("prompts", "shared"),
    [
        ([(1, 2, 3), (4, 5)], 0),
        ([(1, 2, 3), (1, 2, 4)], 2),
        ([(1, 2, 3), (4,), (1, 2, 3)], 3),
        ([(1, 2), (1, 2, 3, 4), (1, 2, 3, 5)], 2 + 3),  # a tree: each token that is there already counts
        ([(7,)], 0),
        ([], 0),
    ],
)
def test_shared_tokens(prompts: list[tuple[int, ...]], shared: int) -> None:
    assert shared_tokens([BenchRequest(prompt, 1) for prompt in prompts]) == shared


def test_what_workloads_share() -> None:
    def found(lengths: str) -> int:
        return shared_tokens(make_requests(make_workload("all-at-once", lengths, 16), 32_000))

    assert found("fixed:tokens=100,fixed:tokens=8") == 0
    assert found("shared-prefix:prefixes=4:prefix=64:own=8:output=2") == 12 * 64
