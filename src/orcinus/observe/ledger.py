"""Ledgers: where all of a request's time went, also across engines that died."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from orcinus.core.request import FinishCode

MOST_CHUNKS = 64  # recorded one by one; all of them are counted
MOST_INTERRUPTIONS = 32  # the same for these


class Account(StrEnum):
    """What a part of a request's time was spent on."""

    QUEUE = "queue"  # before its first iteration
    PREFILL = "prefill"  # iterations with chunks of its prompt
    BETWEEN_CHUNKS = "between_chunks"  # between two of these
    DECODE = "decode"  # iterations with its decodes, and without prompts
    DECODE_BESIDE_PROMPTS = "decode_beside_prompts"  # iterations with its decodes, and with chunks of other prompts
    STALLED = "stalled"  # iterations of other prompts between two of its tokens, without a part for it
    PREEMPTED = "preempted"  # without K/V memory, from a preemption to its next iteration
    RESTART = "restart"  # from the last result of an engine that died to its next iteration, at the same engine or another
    RECOMPUTE = "recompute"  # iterations that computed again what a preemption or a death had lost
    OTHER = "other"  # the rest: between two of its iterations, and from the last one to its end


DECODES = (Account.DECODE, Account.DECODE_BESIDE_PROMPTS)


class PromptChunk(NamedTuple):
    """A chunk of a prompt, with the moments of its iteration."""

    start: int
    tokens: int
    waited: float  # seconds since the chunk before, or in the queue
    launched: float
    returned: float


@dataclass(slots=True)
class Interruption:
    """A loss of all keys and values: a preemption, or the death of an engine."""

    account: Account  # PREEMPTED or RESTART
    began: float
    resumed: float | None = None  # when its next iteration was launched


class BookedIteration(NamedTuple):
    """A returned batch, as the ledgers of its requests see it."""

    replica: int
    launched: float
    returned: float
    prompts_before: float  # seconds of this replica's iterations with chunks of prompts, without this one
    prompts_after: float  # the same with this one


@dataclass(slots=True)
class Ledger:
    """One request's time by account; all accounts add up to its time in the engines.

    Moments are seconds on the machine's monotonic clock, which all engines of a server share. Time is booked when an
    iteration returns, so the accounts of a live request end with its last iteration. Where iterations overlap, a moment is
    booked once, to the one that was launched first.
    """

    arrival: float
    prompt_tokens: int
    seconds: dict[Account, float] = field(default_factory=lambda: dict.fromkeys(Account, 0.0))
    replica: int | None = None  # that computed it last
    cached_tokens: int = 0  # tokens of the prompt found in the prefix cache
    tokens: array[float] = field(default_factory=lambda: array("d"))  # when each of them came
    prefill_chunks: int = 0
    chunks: list[PromptChunk] = field(default_factory=list)
    decode_iterations: int = 0
    draft_tokens: int = 0  # by its last engine (speculative decoding)
    accepted_draft_tokens: int = 0
    preemptions: int = 0
    restarts: int = 0  # engines that it lost
    recomputed_tokens: int = 0
    interruptions: list[Interruption] = field(default_factory=list)
    ended: float | None = None
    finish: str | None = None  # a `Finish`
    code: FinishCode | None = None
    _booked: float = field(init=False)  # up to when time is booked
    _waits_for: Account = Account.QUEUE  # where time until its next iteration belongs
    _read: int = 0  # tokens of the prompt (with those generated, if computed again) whose keys and values were computed
    _lost: int = 0  # of these, what has to be computed again
    _prompt_seconds: float = 0.0  # of its replica's iterations, when it last had a part

    def __post_init__(self) -> None:
        self._booked = self.arrival

    def ran(self, start: int, tokens: int, prefill: bool, iteration: BookedIteration) -> bool:
        """It had a chunk in an iteration that returned; returns whether that was a decode."""
        replica, launched, returned, prompts_before, prompts_after = iteration
        if replica != self.replica:
            if self.replica is not None and self._waits_for is not Account.RESTART:  # it was moved
                self.lose_engine(launched)
            self.replica = replica
        waited = launched - self._booked
        self._wait(launched, prompts_before)
        self._prompt_seconds = prompts_after
        if self.interruptions and self.interruptions[-1].resumed is None:
            self.interruptions[-1].resumed = launched
        end = start + tokens
        if start < self._lost:
            self.recomputed_tokens += min(end, self._lost) - start
            account = Account.RECOMPUTE
        elif prefill:
            if not self.prefill_chunks:
                self.cached_tokens = start
            account = Account.PREFILL
            self.prefill_chunks += 1
            if len(self.chunks) < MOST_CHUNKS:
                self.chunks.append(PromptChunk(start, tokens, max(0.0, waited), launched, returned))
        else:
            account = Account.DECODE_BESIDE_PROMPTS if prompts_after > prompts_before else Account.DECODE
            self.decode_iterations += 1
        if prefill and end > self._read:
            self._read = end
        self._book(account, returned)
        self._waits_for = Account.BETWEEN_CHUNKS if end < max(self.prompt_tokens, self._lost) else Account.OTHER
        return account in DECODES

    def decoded(self, iterations: int, decode: float, other: float, until: float) -> None:
        """It had decodes in iterations without prompts, after one that `ran` called a decode.

        The seconds are those of these iterations, and between them.
        """
        self.decode_iterations += iterations
        self.seconds[Account.DECODE] += decode
        self.seconds[Account.OTHER] += other
        self._booked = until

    def preempt(self, at: float, prompts_before: float) -> None:
        """It lost its K/V memory when a batch was planned."""
        self._wait(at, prompts_before)
        self.preemptions += 1
        self._lose(Account.PREEMPTED, at)

    def lose_engine(self, at: float) -> None:
        """Its engine died, or it was moved to another one."""
        if self._waits_for in (Account.QUEUE, Account.PREEMPTED):
            self._book(self._waits_for, at)
        self.restarts += 1
        self._lose(Account.RESTART, at)

    def _lose(self, account: Account, at: float) -> None:
        computed = self.prompt_tokens + self.output_tokens - 1 if self.tokens else 0
        self._waits_for, self._lost = account, max(self._read, computed)
        if len(self.interruptions) < MOST_INTERRUPTIONS:
            self.interruptions.append(Interruption(account, at))

    def end(self, at: float, finish: str, code: FinishCode | None = None) -> None:
        """It ended.

        Time without a result, as of an iteration in which it was cancelled, belongs to what it waited for before.
        """
        self.ended, self.finish, self.code = max(at, self._booked), finish, code
        self._book(self._waits_for, self.ended)

    def _wait(self, until: float, prompts_before: float) -> None:
        """Book the time since its last iteration."""
        if self._waits_for is Account.OTHER and prompts_before > self._prompt_seconds:
            self._book(Account.STALLED, min(until, self._booked + prompts_before - self._prompt_seconds))
        self._book(self._waits_for, until)

    def _book(self, account: Account, until: float) -> None:
        if until > self._booked:
            self.seconds[account] += until - self._booked
            self._booked = until

    @property
    def output_tokens(self) -> int:
        return len(self.tokens)

    @property
    def first_token(self) -> float | None:
        return self.tokens[0] if self.tokens else None

    @property
    def gaps(self) -> list[float]:
        """Seconds between its tokens (TBT)."""
        return [after - before for before, after in pairwise(self.tokens)]

    def recovered(self, lost: Interruption) -> float | None:
        """When the next token came after an interruption."""
        if lost.resumed is None:
            return None
        place = bisect_right(self.tokens, lost.resumed)
        return self.tokens[place] if place < len(self.tokens) else None

    @property
    def ttft(self) -> float | None:
        """Seconds from its arrival to its first token."""
        return None if self.first_token is None else self.first_token - self.arrival

    @property
    def total_seconds(self) -> float:
        """Seconds from its arrival to its end, or to its last iteration."""
        return sum(self.seconds.values())
