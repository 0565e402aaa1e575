"""The load of a replica, as the server counts it: what it sent there, less what came back."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class ReplicaLoad:
    """What routers go by; a `Load`."""

    outstanding: int = 0  # requests that have not ended
    queued_tokens: int = 0  # tokens of those of which nothing came back yet
    answer_tokens: int = 0  # tokens that all of them may still generate at most

    def count(self, requests: int, queued: int, answer: int) -> None:
        """Add to, or with numbers below 0 take from, each."""
        self.outstanding += requests
        self.queued_tokens += queued
        self.answer_tokens += answer
