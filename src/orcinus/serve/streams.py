"""Streams: the live answers, each with its reader's inbox."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from orcinus.core.batch import Finished, Token
from orcinus.core.promises import MeasuredPromise, PromiseOutcome, PromiseVerdict
from orcinus.core.request import Finish, FinishCode
from orcinus.observe.timeline import Timeline
from orcinus.serve.messages import Cancel, EngineOutput, ScheduledBatch, Submit
from orcinus.serve.replica_load import ReplicaLoad
from orcinus.serve.retry_after import Progress
from orcinus.text.answer import Answer, TextDelta
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.tokenizer import Tokenizer

MOST_UNREAD = 4096  # unread news; a reader this far behind is cut off
REMEMBERED = 1000  # ended promises that can still be queried
BROKEN = (FinishCode.DEADLINE, FinishCode.SHUTDOWN)  # of cancellations that are not the client's wish


@dataclass(frozen=True, slots=True)
class PromptRead:
    """How far a prompt has been computed, for one of its answers."""

    index: int
    choice: int
    computed: int
    cached: int


News = TextDelta | PromptRead | Timeline  # news for a reader; the timeline comes right before the last delta
Inbox = asyncio.Queue[News | None]  # unread news; None wakes a reader whose client is gone


class ServingEngine(Protocol):
    """A serving engine, as streams see it."""

    @property
    def index(self) -> int:
        """Index among the replicas."""
        ...

    @property
    def load(self) -> ReplicaLoad:
        """The engine's work."""
        ...

    def send(self, message: Submit | Cancel) -> None:
        """Queue a message to the engine."""
        ...


@dataclass(slots=True, eq=False)
class StreamPromise:
    """What a request with an SLO was promised; it stays with the request if its engine dies."""

    measured: MeasuredPromise
    verdict: asyncio.Future[PromiseVerdict | None]  # None: the request ended first
    asked: set[int] = field(default_factory=set)  # indices of engines that refused it
    books: bool = True  # whether its engine holds room for it if it refuses
    full: bool = False  # whether the server's queue was full when it came
    best: PromiseVerdict | None = None  # the refusal with the shortest wait

    @property
    def open(self) -> bool:
        """Whether no engine has accepted it yet."""
        return not self.verdict.done()

    def outcome(self, end: float, *, kept: bool | None) -> PromiseOutcome:
        """The record of the promise, as of a time."""
        verdict = None if self.open else self.verdict.result()
        predicted = {} if verdict is None else verdict.predicted
        return PromiseOutcome(self.measured.slo, predicted, self.measured.latencies(end), kept)


@dataclass(slots=True)
class Stream:
    """One live request.

    It has its parameters, its answer so far, its reader, and the engine that serves it.
    """

    prepared: TokenizedRequest
    answer: Answer
    inbox: Inbox
    deadline: float | None  # on this process's monotonic clock
    engine: ServingEngine
    queued: int = 0  # known tokens that its engine has to compute before the next one
    deaths: int = 0  # of engines that computed it when they died, since its last token
    deaths_alone: int = 0  # those among them that computed nothing else, since it was a suspect
    tokens_at_death: int = 0
    last_token: float | None = None  # when the newest token came, on the engine's clock
    cached: int | None = None  # tokens of the prompt found in the prefix cache, once it is read
    promise: StreamPromise | None = None  # of a request with an SLO

    def submission(self) -> Submit:
        """The message that makes an engine continue this answer.

        It carries everything an engine needs to keep the request's place in the queue and its deadline.
        """
        one, answer = self.prepared, self.answer
        moments = answer.metrics.arrival, self.deadline
        message = Submit(answer.request_id, one.ids, one.params, one.context, tuple(answer.token_ids), *moments)
        if (promise := self.promise) is not None:
            message.ask, message.book, message.full = promise.open, promise.books, promise.full
        return message

    def end(self, finish: Finish, error: str | None = None, code: FinishCode | None = None) -> None:
        """End the answer without word from the engine."""
        ending = Finished(self.answer.request_id, finish, time.monotonic(), error, code)
        self.inbox.put_nowait(self.answer.end(ending))

    def enter(self, engine: ServingEngine) -> None:
        """Assign an engine, which then computes all its tokens."""
        self.engine, self.queued = engine, len(self.prepared.ids) + len(self.answer.token_ids)
        engine.load.count(1, self.queued, self.tokens_left)

    def leave(self) -> None:
        """Remove it from its engine's load."""
        self.engine.load.count(-1, -self.queued, -self.tokens_left)

    def add(self, token: Token) -> TextDelta | None:
        """Add the next token; None if the answer has already ended."""
        delta = self.answer.add(token)
        if delta is not None:
            self.last_token = token.at
            if self.promise is not None:
                self.promise.measured.add(token.at)
            self.engine.load.count(0, -self.queued, -1)
            self.queued = 0
        return delta

    def note_death(self, *, alone: bool) -> None:
        """Its engine died while it computed this request, and perhaps others."""
        tokens = len(self.answer.token_ids)
        if tokens > self.tokens_at_death:
            self.deaths = self.deaths_alone = 0
        self.deaths_alone += alone and self.suspect
        self.tokens_at_death = tokens
        self.deaths += 1

    @property
    def suspect(self) -> bool:
        """Whether two engines died under it, with no token between."""
        return self.deaths >= 2 and len(self.answer.token_ids) == self.tokens_at_death

    @property
    def tokens_left(self) -> int:
        """Most tokens that it may still generate."""
        return (self.answer.params.max_tokens or 1) - len(self.answer.token_ids)

    @property
    def progress(self) -> Progress:
        """The answer's tokens so far, and its limit."""
        return Progress(len(self.answer.token_ids), self.answer.params.max_tokens or 1)


class Streams:
    """All live requests by name, the oldest first."""

    def __init__(self) -> None:
        self.tokenizer: Tokenizer | None = None  # once it is loaded
        self._live: dict[str, Stream] = {}
        self._outcomes: OrderedDict[str, PromiseOutcome] = OrderedDict()  # of ended requests
        self.promise_listeners: list[Callable[[PromiseOutcome], None]] = []  # called at the end of each promise

    def __len__(self) -> int:
        return len(self._live)

    def open(
        self,
        name: str,
        prepared: TokenizedRequest,
        inbox: Inbox,
        time_left: float | None,
        engine: ServingEngine,
        *,
        books: bool = True,
        full: bool = False,
    ) -> Submit:
        """Open a stream; returns its message to the engine.

        `time_left` are the seconds to its deadline. With `books`, this engine is the only one that is asked for a promise;
        with `full`, only requests that come as they were told are accepted.
        """
        now = time.monotonic()
        deadline = None if time_left is None else now + time_left
        stream = self._live[name] = Stream(prepared, Answer.begin(name, prepared, self.tokenizer, now), inbox, deadline, engine)
        if (slo := prepared.context.slo) is not None:
            verdict = asyncio.get_running_loop().create_future()
            stream.promise = StreamPromise(MeasuredPromise(slo, now), verdict, books=books, full=full)
        stream.enter(engine)
        return stream.submission()

    def cancel(self, name: str, code: FinishCode | None = None) -> bool:
        """Cancel a live request; returns whether there was one.

        The reader is told why.
        """
        stream = self._live.get(name)
        if stream is None:
            return False
        stream.engine.send(Cancel(name))
        self.end(stream, Finish.CANCELLED, code=code)
        return True

    def end(self, stream: Stream, finish: Finish, error: str | None = None, code: FinishCode | None = None) -> None:
        """End a live request without word from its engine.

        The reader is told why.
        """
        self._remove(stream, Finished(stream.answer.request_id, finish, time.monotonic(), error, code))
        stream.end(finish, error, code)

    def served_by(self, engine: ServingEngine) -> list[Stream]:
        """The live requests of an engine, the oldest first."""
        return [stream for stream in self._live.values() if stream.engine is engine]

    def all(self) -> list[Stream]:
        """All live requests, the oldest first."""
        return list(self._live.values())

    def engine_of(self, name: str) -> ServingEngine | None:
        """The engine that serves a live request."""
        stream = self._live.get(name)
        return None if stream is None else stream.engine

    def take(self, iteration: EngineOutput) -> None:
        """Distribute the results of an iteration."""
        for batch in iteration.batches:
            self._take_batch(batch)
        for token in iteration.tokens:
            if (stream := self._live.get(token.request_id)) is not None:
                self._add(stream, token)
        for ending in iteration.endings:
            if (stream := self._live.get(ending.finished.request_id)) is not None:
                outcome = self._remove(stream, ending.finished)
                if ending.timeline is not None:
                    ending.timeline.promise = outcome
                    stream.inbox.put_nowait(ending.timeline)
                stream.inbox.put_nowait(stream.answer.end(ending.finished))

    def _remove(self, stream: Stream, finished: Finished) -> PromiseOutcome | None:
        """Remove an ended request; returns what became of its promise."""
        del self._live[stream.answer.request_id]
        stream.leave()
        promise = stream.promise
        if promise is None or promise.open:
            if promise is not None:
                promise.verdict.set_result(None)
            return None
        left = finished.reason is Finish.CANCELLED and finished.code not in BROKEN
        outcome = promise.outcome(finished.at, kept=None if left else _kept(promise, finished))
        self._outcomes[finished.request_id] = outcome
        while len(self._outcomes) > REMEMBERED:
            self._outcomes.popitem(last=False)
        for hear in tuple(self.promise_listeners):
            hear(outcome)
        return outcome

    def find(self, name: str) -> Stream | None:
        """A live request."""
        return self._live.get(name)

    def refuse(self, stream: Stream, verdict: PromiseVerdict) -> None:
        """End a request whose SLO no engine accepts; its call hears of it."""
        del self._live[stream.answer.request_id]
        stream.leave()
        if stream.promise is not None and stream.promise.open:
            stream.promise.verdict.set_result(verdict)

    def promise(self, name: str) -> PromiseOutcome | None:
        """What was promised to a request, and what became of it so far."""
        stream = self._live.get(name)
        if stream is None or stream.promise is None:
            return self._outcomes.get(name)
        return stream.promise.outcome(time.monotonic(), kept=None)

    def _take_batch(self, batch: ScheduledBatch) -> None:
        for chunk in batch.chunks:
            if chunk.prefill and (stream := self._live.get(chunk.id)) is not None:
                if stream.cached is None:
                    stream.cached = chunk.start
                read = chunk.start + chunk.tokens, stream.cached
                stream.inbox.put_nowait(PromptRead(stream.answer.index, stream.answer.choice, *read))

    def _add(self, stream: Stream, token: Token) -> None:
        delta = stream.add(token)
        if delta is None:
            return
        stream.inbox.put_nowait(delta)
        if stream.answer.stopped:  # the engine cannot see stop strings: it is told, and answers with the ending
            stream.engine.send(Cancel(token.request_id, stop=True))
        elif stream.inbox.qsize() > MOST_UNREAD:
            self.cancel(token.request_id, FinishCode.UNREAD)

    def arrival(self, name: str) -> float | None:
        """Arrival of a live request, on the machine's monotonic clock."""
        stream = self._live.get(name)
        return None if stream is None else stream.answer.metrics.arrival

    def progress(self, name: str) -> Progress | None:
        """Progress of a live request."""
        stream = self._live.get(name)
        return None if stream is None else stream.progress

    def all_progress(self) -> list[Progress]:
        """Progress of all live requests, the oldest first."""
        return [stream.progress for stream in self._live.values()]

    def progress_and_owner(self, client: str) -> list[tuple[Progress, bool]]:
        """The same, and whether each request is this client's."""
        return [(stream.progress, stream.prepared.context.client == client) for stream in self._live.values()]


def _kept(promise: StreamPromise, finished: Finished) -> bool:
    return finished.reason in (Finish.STOP, Finish.LENGTH) and promise.measured.kept(finished.at)
