"""One request and its answer, from due time to record."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from orcinus.bench.client.events import SSEDecoder
from orcinus.bench.client.frames import DONE, read_frame, refusal_of, shortened
from orcinus.bench.client.pool import Line, Pool
from orcinus.bench.client.tally import Tally
from orcinus.bench.record import RequestOutcome, RequestRecord

REFUSALS = (429, 503)  # statuses of a server that is busy
LONGEST_WAIT_S = 60.0  # longest wait for a Retry-After
USUAL_WAIT_S = 1.0  # wait after a refusal without Retry-After
ERROR_BYTES = 4096  # bytes kept of an error body


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request as it is sent."""

    request: bytes  # head and body
    prompt_tokens: int
    output_tokens: int | None  # required number; None if any will do


@dataclass(slots=True)
class Exchange:
    """One request and its answer.

    `on_ended` is called once, at its end. Times are those of the monotonic clock. A request counts as sent when its bytes
    are handed to the socket, or, if no connection is idle, when the client starts to open one: the time that a server takes
    to accept a connection is part of its latency, as in vLLM's benchmark, guidellm and aiperf.
    """

    number: int
    due: float
    order: EncodedRequest
    on_ended: Callable[[Exchange], None]
    sent: float = 0.0
    ended: float = 0.0
    outcome: RequestOutcome | None = None  # None until it has ended
    error: str = ""
    status: int = 0  # of HTTP
    retry_after: float = 0.0  # seconds, if the server refused
    tally: Tally = field(default_factory=Tally)
    _pool: Pool | None = None
    _line: Line | None = None
    _headers: dict[str, str] = field(default_factory=dict)
    _events: SSEDecoder = field(default_factory=SSEDecoder)
    _kept: bytearray = field(default_factory=bytearray)
    _done: float | None = None  # when [DONE] came
    _again: bool = False

    def send(self, pool: Pool) -> None:
        """Send it: it is due."""
        self._pool, self.sent = pool, time.monotonic()
        self._line = pool.send(self.order.request, self)

    def expire(self) -> None:
        """End it: it has timed out."""
        self._give_up(RequestOutcome.TIMEOUT, f"no complete answer within {time.monotonic() - self.sent:.3g} s")

    # Callbacks of the connection

    def on_head(self, status: int, headers: dict[str, str]) -> None:
        self.status, self._headers = status, headers

    def on_body(self, data: bytes, at: float) -> None:
        if self.status != 200:
            self._kept += data[: ERROR_BYTES - len(self._kept)]
            return
        try:
            events = self._events.feed(data)
        except ValueError as error:
            self._give_up(RequestOutcome.MALFORMED, str(error))
            return
        for event in events:
            if self.outcome is None and self._done is None:
                self._read(event, at)

    def on_end(self, at: float) -> None:
        if self.outcome is not None:
            return
        if self.status != 200:
            self._refuse(at)
        elif self._done is None and not self.tally.ended:
            kind = self._headers.get("content-type", "without a type")
            self._end(RequestOutcome.MALFORMED, f"an answer of {shortened(kind, 60)} that is no stream, or has no ending", at)
        else:
            self._end(RequestOutcome.OK, "", self._done or at)

    def on_lost(self, outcome: RequestOutcome, reason: str, *, stale: bool) -> None:
        if self.outcome is not None:
            return
        if stale and not self._again and self._pool is not None:  # closed while idle, just as we wrote
            self._again = True
            self._line = self._pool.send(self.order.request, self, fresh=True)
        elif self._done is not None:
            self._end(RequestOutcome.OK, "", self._done)
        else:
            self._end(outcome, reason, time.monotonic())

    # Endings

    def _read(self, event: bytes, at: float) -> None:
        if event == DONE:
            self._done = at
            return
        try:
            frame = read_frame(event)
            failure = frame.failure()
            self.tally.add(frame, at)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            self._give_up(RequestOutcome.MALFORMED, f"a frame that cannot be read: {shortened(str(error))}")
            return
        if failure is not None:
            self._give_up(RequestOutcome.FAILED, failure)

    def _refuse(self, at: float) -> None:
        message = refusal_of(self.status, bytes(self._kept))
        if self.status in REFUSALS:
            self.retry_after = _seconds(self._headers.get("retry-after", ""))
            self._end(RequestOutcome.REJECTED, message, at)
        else:
            self._end(RequestOutcome.FAILED, message, at)

    def _give_up(self, outcome: RequestOutcome, error: str) -> None:
        if self.outcome is not None:
            return
        if self._line is not None:
            self._line.drop()
        if self._done is not None:
            self._end(RequestOutcome.OK, "", self._done)
        else:
            self._end(outcome, error, time.monotonic())

    def _end(self, outcome: RequestOutcome, error: str, at: float) -> None:
        wanted, found = self.order.output_tokens, self.tally.output_tokens
        if outcome is RequestOutcome.OK and wanted is not None and found not in (wanted, None):
            outcome, error = RequestOutcome.WRONG_LENGTH, f"{found} output tokens, not {wanted}"
        self.outcome, self.error, self.ended = outcome, error, at
        self._line = None
        self.on_ended(self)

    def record(self, start: float) -> RequestRecord:
        """The request's record, with times counted from `start`."""
        assert self.outcome is not None
        tally = self.tally
        return RequestRecord(
            number=self.number,
            prompt_tokens=tally.prompt_tokens or self.order.prompt_tokens,
            output_tokens=tally.output_tokens,
            due=self.due - start,
            sent=self.sent - start,
            ended=self.ended - start,
            times=tuple([at - start for at in tally.times]),
            timed=tally.timed,
            outcome=self.outcome,
            error=self.error,
            output=tally.output(),
            cached_tokens=tally.cached_tokens,
        )


def _seconds(header: str) -> float:
    """Seconds from a Retry-After header (number or date), within bounds."""
    try:
        found = float(header)
    except ValueError:
        try:
            found = email.utils.parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            found = USUAL_WAIT_S
    return min(max(0.0, found), LONGEST_WAIT_S) if math.isfinite(found) else USUAL_WAIT_S
