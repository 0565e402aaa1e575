"""Calls: HTTP requests for answers, from admission to the last token."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from orcinus.core.promises import PromiseVerdict
from orcinus.core.request import FinishCode
from orcinus.core.slo import SLO
from orcinus.serve.admission_control import AdmissionControl, Ticket
from orcinus.serve.metrics import Metrics
from orcinus.serve.replica_set import ReplicaSet
from orcinus.serve.slo_fields import refusal
from orcinus.serve.streams import Inbox, News
from orcinus.text.answer import TextDelta
from orcinus.text.input_processor import TokenizedRequest

GRACE_S = 0.5
PAUSED_S = 10  # when to come again while the server is paused
REMEMBERED = 1000  # ended calls that can still be queried


@dataclass(eq=False)
class Call:
    """The answers of one HTTP request; its holder must close it."""

    id: str
    owner: str  # the client that made the call
    replicas: ReplicaSet
    ticket: Ticket  # its place in the queue
    release: Callable[[Call], None]
    names: list[str] = field(default_factory=list)  # ids of its answers in the engine
    hung_up: bool = False  # its client is gone
    _inbox: Inbox = field(default_factory=asyncio.Queue)
    _left: int = 0
    _late: asyncio.TimerHandle | None = None

    async def submit(
        self, prepared: Sequence[TokenizedRequest], time_left: float | None, metrics: Metrics, slo: SLO | None = None
    ) -> None:
        """Submit all answers to the engine; with an SLO, wait until it has accepted them.

        Raises `EngineError` if it is gone, and `ApiError` 429 if it refuses.
        """
        if slo is not None and self.replicas.settings.pace.paused:
            metrics.promises_refused.inc()
            raise refusal(slo, PromiseVerdict(False, retry_after=PAUSED_S))
        for place, one in enumerate(prepared):
            name = f"{self.id}-{place}"
            self.replicas.submit(name, one, self._inbox, time_left, full=self.ticket.full)
            self.names.append(name)
        self._left = len(self.names)
        if time_left is not None:  # the engine keeps deadlines; this one is for a stuck engine
            self._late = asyncio.get_running_loop().call_later(time_left + GRACE_S, self._end_late)
        if slo is not None:
            await self._promised(slo, metrics)

    async def _promised(self, slo: SLO, metrics: Metrics) -> None:
        """Wait until the engines have accepted all answers. Raises `ApiError` 429 if they refuse one."""
        streams = [stream for name in self.names if (stream := self.replicas.streams.find(name)) is not None]
        verdicts = [await stream.promise.verdict for stream in streams if stream.promise is not None]
        refused = [verdict for verdict in verdicts if verdict is not None and not verdict.accepted]
        if refused:
            metrics.promises_refused.inc()
            raise refusal(slo, max(refused, key=lambda verdict: (verdict.never, verdict.retry_after)))
        metrics.promises_made.inc(len(verdicts))

    def _end_late(self) -> None:
        for name in self.names:
            self.replicas.streams.cancel(name, FinishCode.DEADLINE)

    async def news(self, silence_s: float | None = None, interval_s: float = 0.0) -> AsyncIterator[list[News]]:
        """Lists of news in order, until the last answer ends.

        News that came at the same time share a list; an empty list means that nothing came for `silence_s`. With an
        `interval_s`, lists come no closer to each other than that.
        """
        loop = asyncio.get_running_loop()
        last = -interval_s
        while self._left:
            try:
                async with asyncio.timeout(silence_s):
                    first = await self._inbox.get()
            except TimeoutError:
                yield []
                continue
            early = interval_s - (loop.time() - last)
            if early > 0:
                await asyncio.sleep(early)
            last = loop.time()
            taken = [first]
            while not self._inbox.empty():
                taken.append(self._inbox.get_nowait())
            if self.hung_up:
                return
            self._left -= sum(isinstance(one, TextDelta) and one.finish_reason is not None for one in taken)
            yield [one for one in taken if one is not None]

    def cancel(self, code: FinishCode | None = None) -> int:
        """End all live answers, for a reason; returns how many there were."""
        return sum(self.replicas.streams.cancel(name, code) for name in self.names)

    def hang_up(self) -> None:
        """Cancel the answers of a client that hung up."""
        self.hung_up = True
        self.cancel()
        self._inbox.put_nowait(None)

    def close(self) -> None:
        """Cancel live answers and free the place in the queue."""
        if self._late is not None:
            self._late.cancel()
        self.cancel()
        while not self._inbox.empty():  # an ended call may be remembered; unread news are not
            self._inbox.get_nowait()
        self.release(self)


class Calls:
    """The open calls, and the last ones that ended."""

    def __init__(self, replicas: ReplicaSet, admission: AdmissionControl) -> None:
        self.replicas, self.admission = replicas, admission
        self._live: dict[str, Call] = {}
        self._ended: OrderedDict[str, Call] = OrderedDict()

    def open(self, id: str, owner: str, ticket: Ticket) -> Call:  # noqa: A002
        """A new call that holds this ticket."""

        call = Call(id, owner, self.replicas, ticket, self._release)
        self._live[id] = call
        return call

    def _release(self, call: Call) -> None:
        self.admission.leave(call.ticket)
        if self._live.pop(call.id, None) is not None:
            self._ended[call.id] = call
            while len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)

    def find(self, id: str, owner: str | None) -> Call | None:  # noqa: A002
        """The call with this id and owner; owner None finds any."""
        call = self._live.get(id) or self._ended.get(id)
        return call if call is not None and owner in (None, call.owner) else None

    def cut_off(self) -> int:
        """Cancel all calls because the server leaves; returns the number of cancelled answers."""
        return sum(call.cancel(FinishCode.SHUTDOWN) for call in list(self._live.values()))
