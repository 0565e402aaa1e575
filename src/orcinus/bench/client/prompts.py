"""Synthetic prompts for arrivals, as token ids or English words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from orcinus.bench.client.words import WORDS
from orcinus.bench.requests import BenchRequest, hash_requests
from orcinus.errors import ConfigError
from orcinus.workload.arrival import Arrival
from orcinus.workload.prompts import prompt_ids
from orcinus.workload.workload import Workload

# Every vocabulary has these ids, and no special tokens among them: those come first
# (below 1,000 in Mistral's) or last.
FIRST_ID, IDS = 1000, 1000


@dataclass(frozen=True, slots=True)
class Ids:
    """Prompts of token ids, with exact lengths."""

    def make(self, arrival: Arrival, number: int, draw: int = 0) -> tuple[int, ...]:
        """The ids of one prompt of a draw (`orcinus.workload.prompts`)."""
        return tuple(FIRST_ID + each for each in prompt_ids(arrival, number, IDS, draw))

    def tokens(self, shared: int, prompts: int) -> int:
        """Tokens shared by prompts of which `shared` were made equal."""
        return shared

    def show(self, ids: tuple[int, ...]) -> tuple[int, ...]:
        """The prompt as it is sent."""
        return ids


@dataclass(frozen=True, slots=True)
class Words:
    """Prompts of words, with lengths in the server's tokens.

    n words have about `around + n * each` tokens, where `around` is what a chat template adds.
    """

    around: float = 0.0
    each: float = 1.0

    def make(self, arrival: Arrival, number: int, draw: int = 0) -> tuple[int, ...]:
        """The words of one prompt of a draw, as indices into WORDS.

        Where arrivals share tokens, their prompts share as many tokens in words.
        """
        own = self._words(arrival.prompt_tokens - self.around)
        shared = min(own, self._words(arrival.prefix_tokens - self.around)) if arrival.prefix_tokens else 0
        block = self._words(arrival.block_tokens) if arrival.blocks else 0
        arrival = replace(arrival, prompt_tokens=own, prefix_tokens=shared, block_tokens=block)
        return prompt_ids(arrival, number, len(WORDS), draw)

    def tokens(self, shared: int, prompts: int) -> int:
        """Tokens that so many prompts share, chat templates included."""
        return round(shared * self.each + prompts * self.around)

    def show(self, ids: tuple[int, ...]) -> str:
        """The prompt as it is sent."""
        return " ".join([WORDS[each] for each in ids])

    def _words(self, tokens: float) -> int:
        return max(1, round(tokens / self.each))


def asked(workload: Workload, prompts: Ids | Words, *, exact_lengths: bool = True) -> Iterator[BenchRequest]:
    """All requests in order, with the output tokens to ask for."""
    for number, arrival in enumerate(workload.untimed()):
        yield BenchRequest(prompts.make(arrival, number), arrival.output_tokens if exact_lengths else arrival.asked_tokens)


def prompts_hash(workload: Workload, prompts: Ids | Words, *, exact_lengths: bool = True) -> str:
    """Hash of all prompts and lengths.

    Raises `ConfigError` for an endless workload.
    """
    if workload.endless:
        raise ConfigError("the workload has no end: say how many requests")
    return hash_requests(asked(workload, prompts, exact_lengths=exact_lengths))
