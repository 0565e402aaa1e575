"""A request that ended, for the access log and for traces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orcinus.observe.ledger import Account, Ledger
from orcinus.serve.answers import Answers


@dataclass(frozen=True, slots=True)
class EndedRequest:
    """An HTTP request and its answers, without any text of theirs and without keys.

    Moments are seconds on the machine's monotonic clock.
    """

    request_id: str
    method: str
    path: str
    route: str  # the path's pattern, or "other"
    status: int
    began: float
    ended: float
    client: str | None  # network address
    key: str | None  # a digest of the API key
    error: str | None  # the code of the error in the response
    model: str | None  # that was asked for
    answers: Answers | None = None  # None if the engine saw nothing of it
    ledgers: Sequence[Ledger] = field(default=())  # one for each answer
    trace_headers: dict[str, str] = field(default_factory=dict)  # W3C trace context of the caller

    def line(self) -> dict[str, Any]:
        """The line of the access log."""
        line: dict[str, Any] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "request_id": self.request_id,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "duration_ms": _ms(self.ended - self.began),
            "client": self.client,
            "key": self.key,
        }
        if self.error is not None:
            line["error"] = self.error
        if self.answers is not None:
            line |= self.answers.usage().as_openai
            line |= {"response_id": self.answers.call.id, "model": self.model, "adapter": self.answers.adapter}
            line["answers"] = [_answer(ledger, self) for ledger in self.ledgers]
        return line


RequestListener = Callable[[EndedRequest], None]


def _answer(ledger: Ledger, request: EndedRequest) -> dict[str, Any]:
    """A ledger for the log: the times of `accounts_ms` add up to the request's `duration_ms`."""
    ended = ledger.arrival if ledger.ended is None else ledger.ended
    accounts = {"prepare": ledger.arrival - request.began}
    accounts |= {account: ledger.seconds[account] for account in Account}
    accounts["respond"] = request.ended - ended
    return {
        "finish": ledger.finish,
        "code": ledger.code,
        "replica": ledger.replica,
        "prompt_tokens": ledger.prompt_tokens,
        "cached_tokens": ledger.cached_tokens,
        "output_tokens": ledger.output_tokens,
        "ttft_ms": None if ledger.ttft is None else _ms(ledger.ttft),
        "tbt_ms": tbt(ledger),
        "accounts_ms": {name: _ms(seconds) for name, seconds in accounts.items() if seconds},
        "prefill_chunks": ledger.prefill_chunks,
        "chunks": [[one.tokens, _ms(one.waited), _ms(one.returned - one.launched)] for one in ledger.chunks],
        "decode_iterations": ledger.decode_iterations,
        "preemptions": ledger.preemptions,
        "restarts": ledger.restarts,
        "recomputed_tokens": ledger.recomputed_tokens,
        "draft_tokens": ledger.draft_tokens,
        "accepted_draft_tokens": ledger.accepted_draft_tokens,
    }


def tbt(ledger: Ledger) -> dict[str, float] | None:
    """Median, 99th percentile and maximum of the milliseconds between tokens; None without two."""
    gaps = sorted(ledger.gaps)
    if not gaps:
        return None
    last = len(gaps) - 1
    return {"p50": _ms(gaps[last // 2]), "p99": _ms(gaps[-(-last * 99 // 100)]), "max": _ms(gaps[last])}


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 3)
