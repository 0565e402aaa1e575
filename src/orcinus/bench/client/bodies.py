"""Request bodies, written before they are due so sending takes microseconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from orcinus.bench.client.exchange import EncodedRequest
from orcinus.bench.client.prompts import Ids, Words
from orcinus.bench.client.tally import Known
from orcinus.bench.client.target import Dialect, Target, with_body
from orcinus.errors import ConfigError
from orcinus.workload.workload import Workload

AHEAD_BYTES = 256 * 2**20  # requests written before the run; the others are written during it
write = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Form:
    """A server's request format: target, dialect, prompts, lengths."""

    target: Target
    dialect: Dialect = Dialect()
    prompts: Ids | Words = Ids()
    exact_lengths: bool = True
    counted: Known = "nothing"  # the source of token counts when the server was probed
    revision: str | None = None  # the commit of its model, if known

    def orders(self, workload: Workload, draw: int = 0) -> Iterator[EncodedRequest]:
        """The requests of a draw, written lazily. Raises `ConfigError` for bad `extra`."""
        head = self.target.head("POST", self.target.path)
        for number, arrival in enumerate(workload.untimed()):
            prompt = self.prompts.show(self.prompts.make(arrival, number, draw))
            tokens = arrival.output_tokens if self.exact_lengths else arrival.asked_tokens
            body = self.dialect.body(self.target, prompt, tokens, exact=self.exact_lengths)
            yield EncodedRequest(with_body(head, encoded(body)), arrival.prompt_tokens, tokens if self.exact_lengths else None)


def encoded(body: dict[str, object]) -> bytes:
    """A value as JSON. Raises `ConfigError` for one that JSON lacks."""
    try:
        return write(body)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"extra fields must be JSON: {error}") from None


class Ahead:
    """Requests in order, some of them written in advance."""

    def __init__(self, orders: Iterator[EncodedRequest], most: int = AHEAD_BYTES) -> None:
        self._orders, self._most = orders, most
        self._ready: deque[EncodedRequest] = deque()
        self.bytes = 0

    def prepare(self, seconds: float) -> bool:
        """Write requests for about `seconds`; returns whether more remain."""
        until = time.monotonic() + seconds
        while self.bytes < self._most:
            order = next(self._orders, None)
            if order is None:
                return False
            self._ready.append(order)
            self.bytes += len(order.request)
            if time.monotonic() >= until:
                return True
        return False

    def take(self) -> EncodedRequest:
        """The next request; it is written now if it is not ready."""
        if not self._ready:
            return next(self._orders)
        order = self._ready.popleft()
        self.bytes -= len(order.request)
        return order
