"""Requests of a benchmark, made before its clock runs, and their hashes."""

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

DIGITS = 16  # length of a hash: enough to notice accidental differences


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """A prompt, and the exact length of its output."""

    prompt: tuple[int, ...]
    output_tokens: int


def make_requests(workload: Workload, vocabulary: int) -> list[BenchRequest]:
    """A workload's requests in order. Raises `ConfigError` if endless."""
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    made = [
        BenchRequest(prompt_ids(arrival, number, vocabulary), arrival.output_tokens)
        for number, arrival in enumerate(workload.untimed())
    ]
    if not made:
        raise ConfigError("the workload has no requests: look at its limits")
    return made


def check_lengths(requests: Sequence[BenchRequest], most: int) -> None:
    """Raise `ConfigError` if a request is longer than the model allows.

    Dropping it silently would change the workload.
    """
    longest = max(len(each.prompt) + each.output_tokens for each in requests)
    too_long = sum(len(each.prompt) + each.output_tokens > most for each in requests)
    if too_long:
        raise ConfigError(
            f"{too_long} of {len(requests)} requests are longer than the {most} tokens that one may have here (the longest: "
            f"{longest}): leave them out with --max-total {most}, or raise --max-model-len if the model allows it"
        )


def hash_requests(requests: Iterable[BenchRequest]) -> str:
    """Hash of all prompts and lengths, in order."""
    found = hashlib.sha256()
    for each in requests:
        found.update(array("q", (len(each.prompt), *each.prompt, each.output_tokens)).tobytes())
    return found.hexdigest()[:DIGITS]


def shared_tokens(requests: Iterable[BenchRequest]) -> int:
    """Prompt tokens that an initially empty prefix cache can save."""
    ordered = sorted(each.prompt for each in requests)
    return sum(_common_prefix(*pair) for pair in pairwise(ordered))


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def describe(requests: Sequence[BenchRequest], **named: Any) -> Work:
    """A result's work; `named` are the other fields of `Work`."""
    return Work(
        requests=len(requests),
        prompt_tokens=sum(len(each.prompt) for each in requests),
        output_tokens=sum(each.output_tokens for each in requests),
        prompts=hash_requests(requests),
        shared_tokens=shared_tokens(requests),
        **named,
    )


def hash_tokens(tokens: Sequence[int]) -> str:
    """Hash of one output's tokens."""
    return hashlib.sha256(array("q", tokens).tobytes()).hexdigest()[:DIGITS]
