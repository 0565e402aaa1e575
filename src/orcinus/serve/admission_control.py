"""Admission control: limits on answers and tokens, in all and per client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from orcinus.serve.errors import ApiError, invalid

ASKING = 8  # times as many answers and tokens as have room may be inside while engines decide about SLOs


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
    full: bool = False  # the queue had no room for it: its engine accepts it only if it comes as it was told


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

    def enter(self, client: str, answers: int, tokens: int, field: str = "n", *, asks: bool = False) -> Ticket:
        """Admit a request, or raise `ApiError` 400 or 429.

        `tokens` may be a lower bound until they are counted; `field` is what asks for several answers. A full queue does not
        refuse a request that `asks` for an SLO, unless very many wait for a verdict: its ticket says so, and the engine tells
        it when to come again.
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
        ticket = Ticket(client, answers, tokens)
        if asks:
            self.check_asking(answers)
            self._check_tokens(self.tokens, tokens, answers, ASKING)
            ticket.full = not (self._has_room(answers) and self._holds(self.tokens, tokens))
        else:
            self.check_room(answers)
            self._check_tokens(self.tokens, tokens, answers)
        self._count(ticket, 1)
        return ticket

    def check_room(self, answers: int = 1) -> None:
        """Raise `ApiError` 429 if these answers have no place."""
        if not self._has_room(answers):
            raise self._full("the queue is full", "queue_full", answers)

    def check_asking(self, answers: int = 1) -> None:
        """Raise `ApiError` 429 if these answers cannot even wait for an engine's verdict.

        With one answer it can be called before a body is read.
        """
        if self.answers + answers > ASKING * self.bounds.answers:
            raise self._full("the queue is full", "queue_full", answers)

    def resize(self, ticket: Ticket, tokens: int, *, asks: bool = False) -> None:
        """Correct a ticket's tokens after counting them. Raises `ApiError` 429, unless the request `asks` for an SLO.

        The request keeps its place until it leaves.
        """
        others = self.tokens - ticket.tokens
        self._check_tokens(others, tokens, ticket.answers, ASKING if asks else 1)
        ticket.full |= not self._holds(others, tokens)
        self.tokens += tokens - ticket.tokens
        ticket.tokens = tokens

    def leave(self, ticket: Ticket) -> None:
        """Free the ticket's place; a second call does nothing."""
        self._count(ticket, -1)
        ticket.answers = ticket.tokens = 0

    def _has_room(self, answers: int) -> bool:
        return self.answers + answers <= self.bounds.answers - self.held(self.answers)

    def _holds(self, others: int, own: int, times: int = 1) -> bool:
        return not others or others + own <= times * self.bounds.tokens

    def _check_tokens(self, others: int, own: int, answers: int, times: int = 1) -> None:
        if not self._holds(others, own, times):
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
