"""The requests of a benchmark, made before its clock runs: what is asked, and proof of what it was."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orcinus.bench.result import Work
from orcinus.errors import ConfigError
from orcinus.workload.prompts import prompt_ids
from orcinus.workload.workload import Workload

DIGITS = 16  # of a hash: enough to tell apart what differs by mistake


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: its prompt, and exactly how many tokens it is answered with."""

    prompt: tuple[int, ...]
    output_tokens: int


def make_requests(workload: Workload, vocabulary: int) -> list[Asked]:
    """The requests in the order in which they are sent, whatever the arrivals. Raises `ConfigError` if they have no end."""
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    made = [
        Asked(prompt_ids(arrival, number, vocabulary), arrival.output_tokens)
        for number, arrival in enumerate(workload.untimed())
    ]
    if not made:
        raise ConfigError("the workload has no requests: look at its limits")
    return made


def check_lengths(requests: Sequence[Asked], most: int) -> None:
    """Raises `ConfigError` if some are longer than a model serves: leaving them out in silence would be another workload."""
    longest = max(len(each.prompt) + each.output_tokens for each in requests)
    too_long = sum(len(each.prompt) + each.output_tokens > most for each in requests)
    if too_long:
        raise ConfigError(
            f"{too_long} of {len(requests)} requests are longer than the {most} tokens that one may have here (the longest: "
            f"{longest}): leave them out with --max-total {most}, or raise --max-model-len if the model allows it"
        )


def hash_requests(requests: Iterable[Asked]) -> str:
    """Of all prompts and lengths, in order."""
    found = hashlib.sha256()
    for each in requests:
        found.update(array("q", (len(each.prompt), *each.prompt, each.output_tokens)).tobytes())
    return found.hexdigest()[:DIGITS]


def shared_tokens(requests: Iterable[Asked]) -> int:
    """Prompt tokens with which another prompt begins as well: what a prefix cache that starts empty can save."""
    ordered = sorted(each.prompt for each in requests)
    return sum(_alike(*pair) for pair in pairwise(ordered))


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def describe(requests: Sequence[Asked], **named: Any) -> Work:
    """The requests as the work of a result; `named` are the other fields of `Work`."""
    return Work(
        requests=len(requests),
        prompt_tokens=sum(len(each.prompt) for each in requests),
        output_tokens=sum(each.output_tokens for each in requests),
        prompts=hash_requests(requests),
        shared_tokens=shared_tokens(requests),
        **named,
    )


def hash_tokens(tokens: Sequence[int]) -> str:
    """Of one output."""
    return hashlib.sha256(array("q", tokens).tobytes()).hexdigest()[:DIGITS]
