"""The answers in progress, each with the inbox of its reader."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Protocol

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish, FinishCode
from orcinus.observe.timeline import Timeline
from orcinus.serve.messages import Cancel, EngineOutput, ScheduledBatch, Submit
from orcinus.serve.replica_load import ReplicaLoad
from orcinus.serve.retry_after import Progress
from orcinus.text.answer import Answer, TextDelta
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.tokenizer import Tokenizer

MOST_UNREAD = 4096  # a reader that is so far behind is cut off


@dataclass(frozen=True, slots=True)
class PromptRead:
    """How far a prompt has been read, for one of the answers to it."""

    index: int
    choice: int
    computed: int
    cached: int


News = TextDelta | PromptRead | Timeline  # what a reader hears of its requests; the timeline comes right before the last delta
Inbox = asyncio.Queue[News | None]  # unread news; None wakes the reader up because its client is gone


class ServingEngine(Protocol):
    """What streams need of the engine that serves them."""

    @property
    def index(self) -> int:
        """Its place among the replicas."""
        ...

    @property
    def load(self) -> ReplicaLoad:
        """What it has to do."""
        ...

    def send(self, message: Cancel) -> None:
        """Queue a message to it."""
        ...


@dataclass(slots=True)
class Stream:
    """One live request: its parameters, its answer so far, its reader, and the engine that serves it."""

    prepared: TokenizedRequest
    answer: Answer
    inbox: Inbox
    deadline: float | None  # on this process's monotonic clock
    engine: ServingEngine
    queued: int = 0  # tokens that its engine has to compute before its next one, as far as is known
    moves: int = 0  # from engines that died
    cached: int | None = None  # how much of the prompt was found in the prefix cache, once it is read

    def submission(self) -> Submit:
        """The message that makes an engine continue this answer.

        It carries everything an engine needs to keep the request's place in the queue and its deadline.
        """
        now, one = time.monotonic(), self.prepared
        age = now - self.answer.metrics.arrival
        left = None if self.deadline is None else self.deadline - now
        return Submit(self.answer.request_id, one.ids, one.params, one.context, tuple(self.answer.token_ids), age, left)

    def end(self, finish: Finish, error: str | None = None, code: FinishCode | None = None) -> None:
        """Tell the reader that the answer ended here, without word from the engine."""
        ending = Finished(self.answer.request_id, finish, time.monotonic(), error, code)
        self.inbox.put_nowait(self.answer.end(ending))

    def enter(self, engine: ServingEngine) -> None:
        """An engine is to serve it from now on, and computes all of its tokens."""
        self.engine, self.queued = engine, len(self.prepared.ids) + len(self.answer.token_ids)
        engine.load.count(1, self.queued, self.tokens_left)

    def leave(self) -> None:
        """Its engine serves it no more."""
        self.engine.load.count(-1, -self.queued, -self.tokens_left)

    def add(self, token: Token) -> TextDelta | None:
        """The next token; None if the answer has ended before it."""
        delta = self.answer.add(token)
        if delta is not None:
            self.engine.load.count(0, -self.queued, -1)
            self.queued = 0
        return delta

    @property
    def tokens_left(self) -> int:
        """Most tokens that it may still generate."""
        return (self.answer.params.max_tokens or 1) - len(self.answer.token_ids)

    @property
    def progress(self) -> Progress:
        """How far the answer is."""
        return Progress(len(self.answer.token_ids), self.answer.params.max_tokens or 1)


class Streams:
    """All live requests by name, the oldest first."""

    def __init__(self) -> None:
        self.tokenizer: Tokenizer | None = None  # once it is loaded
        self._live: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._live)

    def open(
        self, name: str, prepared: TokenizedRequest, inbox: Inbox, time_left: float | None, engine: ServingEngine
    ) -> Submit:
        """A new stream; returns its message to the engine. `time_left` are the seconds to its deadline."""
        now = time.monotonic()
        deadline = None if time_left is None else now + time_left
        stream = self._live[name] = Stream(prepared, Answer.begin(name, prepared, self.tokenizer, now), inbox, deadline, engine)
        stream.enter(engine)
        return stream.submission()

    def cancel(self, name: str, code: FinishCode | None = None) -> bool:
        """End a live request and tell its reader why; returns whether there was one."""
        stream = self._live.get(name)
        if stream is None:
            return False
        stream.engine.send(Cancel(name))
        self.end(stream, Finish.CANCELLED, code=code)
        return True

    def end(self, stream: Stream, finish: Finish, error: str | None = None, code: FinishCode | None = None) -> None:
        """End a live request without word from its engine, and tell its reader why."""
        self._remove(stream)
        stream.end(finish, error, code)

    def served_by(self, engine: ServingEngine) -> list[Stream]:
        """The live requests of an engine, the oldest first."""
        return [stream for stream in self._live.values() if stream.engine is engine]

    def engine_of(self, name: str) -> ServingEngine | None:
        """The engine that serves a live request."""
        stream = self._live.get(name)
        return None if stream is None else stream.engine

    def take(self, iteration: EngineOutput) -> None:
        """Hand out what an iteration led to."""
        for batch in iteration.batches:
            self._take_batch(batch)
        for token in iteration.tokens:
            if (stream := self._live.get(token.request_id)) is not None:
                self._add(stream, token)
        for ending in iteration.endings:
            if (stream := self._live.get(ending.finished.request_id)) is not None:
                self._remove(stream)
                if ending.timeline is not None:
                    stream.inbox.put_nowait(ending.timeline)
                stream.inbox.put_nowait(stream.answer.end(ending.finished))

    def _remove(self, stream: Stream) -> None:
        del self._live[stream.answer.request_id]
        stream.leave()

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
        if stream.answer.stopped:  # the engine cannot see a stop string, so it is told, and answers with the ending
            stream.engine.send(Cancel(token.request_id, stop=True))
        elif stream.inbox.qsize() > MOST_UNREAD:
            self.cancel(token.request_id)

    def arrival(self, name: str) -> float | None:
        """When a live request arrived, on the machine's monotonic clock."""
        stream = self._live.get(name)
        return None if stream is None else stream.answer.metrics.arrival

    def progress(self, name: str) -> Progress | None:
        """How far a live request is."""
        stream = self._live.get(name)
        return None if stream is None else stream.progress

    def all_progress(self) -> list[Progress]:
        """How far all live requests are, the oldest first."""
        return [stream.progress for stream in self._live.values()]

    def progress_and_owner(self, client: str) -> list[tuple[Progress, bool]]:
        """The same, and whether each request is this client's."""
        return [(stream.progress, stream.prepared.context.client == client) for stream in self._live.values()]
