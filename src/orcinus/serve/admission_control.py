"""Admission control: limits on answers and tokens, in all and per client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orcinus.serve.errors import ApiError, invalid


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most answers and tokens that may wait or run at once."""

    answers: int = 256
    tokens: int = 2**20  # prompt and answer tokens; a request that is alone may have more
    per_client: int | None = None  # answers of one client; None = up to the limit of all clients

    @property
    def of_one_request(self) -> int:
        """Most answers that a single request may ask for."""
        return min(self.answers, self.per_client or self.answers)


@dataclass(slots=True)
class Ticket:
    """One HTTP request's admission: its client, answers and tokens."""

    client: str
    answers: int
    tokens: int


@dataclass
class AdmissionControl:
    """Counts admitted requests.

    `retry_after` predicts in how many seconds a number of answers will find room; `held` gives the number of free places that
    are promised.
    """

    bounds: Bounds
    retry_after: Callable[[int, str | None], int]  # answers, client at its own limit -> seconds
    held: Callable[[int], int] = lambda inside: 0  # answers inside -> free places that are promised
    answers: int = 0
    tokens: int = 0
    by_client: Counter[str] = field(default_factory=Counter)

    def enter(self, client: str, answers: int, tokens: int, field: str = "n") -> Ticket:
        """Admit a request, or raise `ApiError` 400 or 429.

        `tokens` may be a lower bound until they are counted; `field` is what asks for several answers.
        """
        per_client = self.bounds.per_client
        most = self.bounds.of_one_request
        if answers > most:
            message = f"{answers} answers (prompts times n) in one request: this server takes {most} at once"
            raise invalid(field, message, "too_many_answers")
        if per_client is not None and self.by_client[client] + answers > per_client:
            raise self._full(
                f"you have {self.by_client[client]} answers in the queue and may have {per_client}",
                "client_queue_full",
                answers,
                client,
            )
        self.check_room(answers)
        self._check_tokens(self.tokens, tokens, answers)
        ticket = Ticket(client, answers, tokens)
        self._count(ticket, 1)
        return ticket

    def check_room(self, answers: int = 1) -> None:
        """Raise `ApiError` 429 if these answers have no place.

        With one answer it can be called before a body is read.
        """
        if self.answers + answers > self.bounds.answers - self.held(self.answers):
            raise self._full("the queue is full", "queue_full", answers)

    def resize(self, ticket: Ticket, tokens: int) -> None:
        """Correct a ticket's tokens after counting them. Raises `ApiError` 429.

        The request keeps its place until it leaves.
        """
        self._check_tokens(self.tokens - ticket.tokens, tokens, ticket.answers)
        self.tokens += tokens - ticket.tokens
        ticket.tokens = tokens

    def leave(self, ticket: Ticket) -> None:
        """Free the ticket's place; a second call does nothing."""
        self._count(ticket, -1)
        ticket.answers = ticket.tokens = 0

    def _check_tokens(self, others: int, own: int, answers: int) -> None:
        if others and others + own > self.bounds.tokens:
            raise self._full(f"the queue holds {others} tokens", "queue_full", answers)

    def _count(self, ticket: Ticket, sign: int) -> None:
        self.answers += sign * ticket.answers
        self.tokens += sign * ticket.tokens
        self.by_client[ticket.client] += sign * ticket.answers
        if not self.by_client[ticket.client]:
            del self.by_client[ticket.client]

    def _full(self, what: str, code: str, answers: int, client: str | None = None) -> ApiError:
        seconds = str(self.retry_after(answers, client))
        return ApiError(429, f"{what}; try again in {seconds} s", code=code, headers={"Retry-After": seconds})
