"""The answers in progress, each with the inbox of its reader."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish, FinishCode
from orcinus.observe.timeline import Timeline
from orcinus.serve.messages import Cancel, EngineOutput, ScheduledBatch, Submit
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


@dataclass(slots=True)
class Stream:
    """One live request: its parameters, its answer so far, its reader."""

    prepared: TokenizedRequest
    answer: Answer
    inbox: Inbox
    deadline: float | None  # on this process's monotonic clock
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

    @property
    def progress(self) -> Progress:
        """How far the answer is."""
        return Progress(len(self.answer.token_ids), self.answer.params.max_tokens or 1)


class Streams:
    """All live requests by name, the oldest first. `cancel` is called for those that end on this side."""

    def __init__(self, cancel: Callable[[Cancel], None]) -> None:
        self.tokenizer: Tokenizer | None = None  # once it is loaded
        self._cancel = cancel
        self._live: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._live)

    def open(self, name: str, prepared: TokenizedRequest, inbox: Inbox, time_left: float | None) -> Submit:
        """A new stream; returns its message to the engine. `time_left` are the seconds to its deadline."""
        now = time.monotonic()
        deadline = None if time_left is None else now + time_left
        stream = self._live[name] = Stream(prepared, Answer.begin(name, prepared, self.tokenizer, now), inbox, deadline)
        return stream.submission()

    def cancel(self, name: str, code: FinishCode | None = None) -> bool:
        """End a live request and tell its reader why; returns whether there was one."""
        stream = self._live.pop(name, None)
        if stream is None:
            return False
        self._cancel(Cancel(name))
        stream.end(Finish.CANCELLED, code=code)
        return True

    def fail_all(self, reason: str) -> None:
        """The engine is gone: every request fails, and every reader hears why."""
        for stream in self._live.values():
            stream.end(Finish.FAILED, reason)
        self._live.clear()

    def take(self, iteration: EngineOutput) -> None:
        """Hand out what an iteration led to."""
        for batch in iteration.batches:
            self._take_batch(batch)
        for token in iteration.tokens:
            if (stream := self._live.get(token.request_id)) is not None:
                self._add(stream, token)
        for ending in iteration.endings:
            stream = self._live.pop(ending.finished.request_id, None)
            if stream is not None:
                if ending.timeline is not None:
                    stream.inbox.put_nowait(ending.timeline)
                stream.inbox.put_nowait(stream.answer.end(ending.finished))

    def _take_batch(self, batch: ScheduledBatch) -> None:
        for chunk in batch.chunks:
            if chunk.prefill and (stream := self._live.get(chunk.id)) is not None:
                if stream.cached is None:
                    stream.cached = chunk.start
                read = chunk.start + chunk.tokens, stream.cached
                stream.inbox.put_nowait(PromptRead(stream.answer.index, stream.answer.choice, *read))

    def _add(self, stream: Stream, token: Token) -> None:
        delta = stream.answer.add(token)
        if delta is None:
            return
        stream.inbox.put_nowait(delta)
        if stream.answer.stopped:  # the engine cannot see a stop string, so it is told, and answers with the ending
            self._cancel(Cancel(token.request_id, stop=True))
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
