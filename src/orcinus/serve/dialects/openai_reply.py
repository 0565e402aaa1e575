"""The common part of OpenAI's chats and completions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any, ClassVar

from orcinus.observe.timeline import Stage, Timeline
from orcinus.serve.answers import Answers, ChoiceDelta
from orcinus.serve.dialects.reply import DONE, ServedModel, event
from orcinus.serve.errors import ApiError
from orcinus.serve.logprobs import LogprobWriter
from orcinus.serve.schema import Sampling
from orcinus.serve.streams import PromptRead


class OpenAIReply(ABC):
    """A `Reply` with choices, usage and timings."""

    kind: ClassVar[str]  # of a whole response
    frame_kind: ClassVar[str]

    def __init__(self, answers: Answers, served: ServedModel, body: Sampling) -> None:
        self.answers, self.served, self.body = answers, served, body
        self.id = answers.call.id
        self.writer = LogprobWriter(answers.tokenizer, as_ids=bool(body.return_tokens_as_token_ids))
        self._begun: set[int] = set()  # places of choices with a frame

    @abstractmethod
    def _whole(self, choices: list[ChoiceDelta]) -> dict[str, Any]:
        """The response's fields that the dialects write differently, `choices` among them."""

    @abstractmethod
    def _part(self, delta: ChoiceDelta, *, first: bool) -> dict[str, Any]:
        """The same of a frame."""

    async def whole(self) -> dict[str, Any]:
        """The response object of a request that does not stream.

        All answers must have ended. Raises `ApiError` if one failed.
        """
        own = self._whole(await self.answers.all())
        return {**self._head(self.kind), "choices": [], "usage": self.usage(), "timings": self.timings(), **own}

    async def frames(self, keep_alive_s: float, interval_s: float) -> AsyncIterator[bytes]:
        """Server-sent events, to the last `[DONE]`."""
        try:
            async for frame in self.answers.frames(keep_alive_s, interval_s, self._event):
                yield frame
        except ApiError as error:
            yield event({**error.body, "request_id": self.id}) + DONE
            return
        if self.answers.call.hung_up:
            return
        options = self.body.stream_options
        last = event({**self._head(self.frame_kind), "choices": [], "usage": self.usage()})
        yield (last if options and options.include_usage else b"") + DONE

    def _event(self, fresh: ChoiceDelta | PromptRead) -> bytes:
        """The event of a delta; empty if it has no news."""
        if isinstance(fresh, PromptRead):
            return event(self._progress(fresh)) if self.body.return_progress else b""
        if not (self._says_something(fresh) or (self.body.return_token_ids and fresh.token_ids)):
            return b""
        first = fresh.place not in self._begun
        self._begun.add(fresh.place)
        return event(self.frame(fresh, first=first))

    def _says_something(self, delta: ChoiceDelta) -> bool:
        return delta.says_something

    def frame(self, delta: ChoiceDelta, *, first: bool) -> dict[str, Any]:
        """The frame of one delta; the first of a choice says more."""
        frame = {**self._head(self.frame_kind), **self._part(delta, first=first)}
        if delta.finish_reason:
            frame["timings"] = self.timings()
        if (options := self.body.stream_options) and options.continuous_usage_stats:
            frame["usage"] = self.usage()
        return frame

    def _progress(self, progress: PromptRead) -> dict[str, Any]:
        total = len(self.answers.prompts[progress.index].ids)
        facts = {"total": total, "cache": progress.cached, "processed": progress.computed}
        return {**self._head(self.frame_kind), "choices": [], "prompt_progress": facts}

    def _choice(self, delta: ChoiceDelta, text: dict[str, Any], logprobs: dict[str, Any] | None) -> dict[str, Any]:
        """A choice with its text, in the form of the dialect."""
        choice = {"index": delta.place, **text, "logprobs": logprobs, "finish_reason": delta.finish_reason}
        return choice | ({"token_ids": delta.token_ids} if self.body.return_token_ids else {})

    def _about_prompt(self, delta: ChoiceDelta) -> dict[str, Any]:
        """Requested facts about the prompt of an answer."""
        found: dict[str, Any] = {}
        ids = self.answers.prompt_of(delta).ids
        if self.body.return_token_ids:
            found["prompt_token_ids"] = list(ids)
        if self.body.prompt_logprobs is not None and delta.prompt_scores is not None:
            found["prompt_logprobs"] = self.writer.prompt(ids, delta.prompt_scores, self.body.prompt_logprobs)
        return found

    def usage(self) -> dict[str, Any]:
        """Exact counts of tokens; a prompt counts once for all answers."""
        return self.answers.usage().as_openai

    def timings(self) -> dict[str, Any] | None:
        """Times of the answer that ended last."""
        last = self.answers.last_timeline
        return None if last is None else timings(last)

    def _head(self, kind: str) -> dict[str, Any]:
        made = {"id": self.id, "object": kind, "created": self.served.created, "model": self.served.name}
        return {**made, "system_fingerprint": self.served.fingerprint}


def timings(timeline: Timeline) -> dict[str, Any]:
    """The stages of a request in milliseconds, and its counts; its promise, if it has an SLO."""
    promise = timeline.promise
    facts = {} if promise is None else {"promise": {**asdict(promise), "slo": dict(promise.slo.bounds)}}
    return {
        **facts,
        "queue_ms": 1000 * timeline.seconds[Stage.QUEUED],
        "prefill_ms": 1000 * timeline.seconds[Stage.PREFILL],
        "decode_ms": 1000 * timeline.seconds[Stage.DECODE],
        "preempted_ms": 1000 * timeline.seconds[Stage.PREEMPTED],
        "total_ms": 1000 * timeline.total_seconds,
        "prefill_iterations": timeline.prefill_iterations,
        "decode_iterations": timeline.decode_iterations,
        "preemptions": timeline.preemptions,
        "cached_tokens": timeline.cached_tokens,
        "draft_tokens": timeline.draft_tokens,
        "accepted_draft_tokens": timeline.accepted_draft_tokens,
    }
