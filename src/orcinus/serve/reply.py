"""Responses and stream frames in OpenAI's shapes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from time import monotonic
from typing import Any

import msgspec

from orcinus.core.request import Finish, FinishCode, Logprobs
from orcinus.observe.timeline import Stage, Timeline
from orcinus.serve.calls import Call
from orcinus.serve.errors import CLIENT_CLOSED, ApiError
from orcinus.serve.logprobs import LogprobWriter
from orcinus.serve.schema import ChatBody, CompletionBody, Sampling
from orcinus.serve.streams import News, PromptRead
from orcinus.text.answer import TextDelta
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.tokenizer import Tokenizer

FINISHED = ("stop", "length")  # OpenAI's words; anything else is an error
FAILED = (500, "the request failed while it ran", "request_failed")
TOLD = (500, "the request failed while it ran: {error}", "request_failed")
TOO_LARGE = (400, "the request can never be served: it is longer than the engine's memory", "invalid_value")
FAILURES: dict[str, tuple[int, str, str]] = {  # a `FinishCode`, or else a `Finish` -> status, message, error code
    FinishCode.DEADLINE: (408, "the request took longer than its timeout", "timeout"),
    FinishCode.NEVER_FITS: TOO_LARGE,
    FinishCode.TOO_LONG: TOO_LARGE,
    FinishCode.ALL_FORBIDDEN: TOLD,
    FinishCode.BAD_LOGITS: TOLD,
    FinishCode.OUT_OF_MEMORY: FAILED,
    FinishCode.EXECUTOR_FAILED: FAILED,
    Finish.REJECTED: TOO_LARGE,
    Finish.CANCELLED: (CLIENT_CLOSED, "the request was cancelled", "cancelled"),
}
CHUNK = "chat.completion.chunk"
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"
to_json = msgspec.json.Encoder().encode  # NaN and infinities become null


@dataclass(slots=True)
class ChoiceDelta:
    """One or several text deltas of one choice."""

    place: int  # of the choice in the response
    content: str = ""
    reasoning: str = ""
    token_ids: list[int] = field(default_factory=list)
    scores: list[tuple[int, Logprobs | None, int]] = field(default_factory=list)  # and where in the text the token begins
    prompt_scores: tuple[Logprobs, ...] | None = None  # of the prompt's tokens except the first
    finish_reason: str | None = None
    error: str | None = None
    code: FinishCode | None = None

    def add(self, other: ChoiceDelta) -> None:
        """Append a later delta."""
        self.content += other.content
        self.reasoning += other.reasoning
        self.token_ids += other.token_ids
        self.scores += other.scores
        self.prompt_scores = self.prompt_scores or other.prompt_scores
        self.finish_reason, self.error, self.code = other.finish_reason, other.error, other.code

    @property
    def says_something(self) -> bool:
        """Whether the delta says anything.

        False for an incomplete character, or for text that may begin a stop string.
        """
        return bool(self.content or self.reasoning or self.scores or self.finish_reason)


class Reply:
    """All answers of one request, and their JSON."""

    def __init__(
        self,
        call: Call,
        created: int,
        model: str,
        body: Sampling,
        prepared: Sequence[TokenizedRequest],
        tokenizer: Tokenizer,
        fingerprint: str = "",
    ) -> None:
        self.call, self.body, self.tokenizer = call, body, tokenizer
        self.writer = LogprobWriter(tokenizer, as_ids=bool(body.return_tokens_as_token_ids))
        self.prompts = {one.index: one for one in reversed(prepared)}
        self.is_chat = isinstance(body, ChatBody)
        self.id, self.created, self.model, self.fingerprint = call.id, created, model, fingerprint
        self.echo = isinstance(body, CompletionBody) and bool(body.echo)
        self.silent = isinstance(body, CompletionBody) and body.max_tokens == 0
        self.choices: dict[int, ChoiceDelta] = {}
        self.cached: dict[int, int] = {}  # prompt -> tokens found in the prefix cache, by its first answer
        self.last_timeline: Timeline | None = None  # of the answer that ended last
        self._echoed: dict[int, tuple[str, list[int]]] = {}  # prompt -> its text, and the offsets of its tokens

    # What comes from the engine

    def take(self, news: Sequence[News], *, merge: bool) -> list[ChoiceDelta | PromptRead]:
        """Add news to the answers; returns what is new.

        An ending joins its last token, with `merge` all tokens are joined.
        """
        fresh: list[ChoiceDelta | PromptRead] = []
        newest: dict[int, ChoiceDelta] = {}
        for one in news:
            if isinstance(one, Timeline):
                self.last_timeline = one
            elif isinstance(one, PromptRead):
                if one.choice == 0:
                    self.cached.setdefault(one.index, one.cached)
                fresh.append(one)
            else:
                delta = self._delta(one)
                self.choices.setdefault(delta.place, ChoiceDelta(delta.place)).add(delta)
                before = newest.get(delta.place)
                if before is not None and (merge or one.token_id is None):
                    before.add(delta)
                else:
                    newest[delta.place] = delta
                    fresh.append(delta)
        return fresh

    def _delta(self, text_delta: TextDelta) -> ChoiceDelta:
        """A text delta as a delta of its choice."""
        place = text_delta.index * (self.body.n or 1) + text_delta.choice
        delta = ChoiceDelta(place, finish_reason=text_delta.finish_reason, error=text_delta.error, code=text_delta.code)
        if self.body.prompt_logprobs is not None:
            delta.prompt_scores = text_delta.prompt_logprobs
        if self.silent and delta.finish_reason in FINISHED:
            delta.finish_reason = "length"
        if self.echo and place not in self.choices:
            self._add_prompt(delta, text_delta)
        if self.silent:
            return delta
        delta.reasoning, delta.content = text_delta.reasoning, delta.content + text_delta.text
        if text_delta.token_id is not None:
            delta.token_ids.append(text_delta.token_id)
            if text_delta.logprobs is not None:
                before = len(self._prompt(text_delta.index)[0]) if self.echo else 0
                delta.scores.append((text_delta.token_id, text_delta.logprobs, before + text_delta.offset))
        return delta

    def _add_prompt(self, delta: ChoiceDelta, text_delta: TextDelta) -> None:
        delta.content, offsets = self._prompt(text_delta.index)
        prompt = self.prompts[text_delta.index]
        if text_delta.prompt_logprobs is not None and prompt.params.logprobs is not None:
            count = prompt.params.logprobs
            cut = (replace(one, top=one.top[:count]) for one in text_delta.prompt_logprobs)
            delta.scores += zip(prompt.ids, (None, *cut), offsets, strict=True)

    def _prompt(self, index: int) -> tuple[str, list[int]]:
        """The echoed text of a prompt and its tokens' offsets."""
        if index not in self._echoed:
            prompt = self.prompts[index]
            detokenizer = self.tokenizer.detokenizer(skip_special_tokens=prompt.params.skip_special_tokens)
            pieces = [detokenizer.add(token) for token in prompt.ids]
            rest = detokenizer.finish() if self.silent else ""
            text = "".join(pieces) + rest if prompt.text is None else prompt.text
            self._echoed[index] = text, list(accumulate(map(len, pieces), initial=0))[:-1]
        return self._echoed[index]

    # Not streamed

    async def whole(self) -> dict[str, Any]:
        """The response object of a request that does not stream.

        All answers must have ended. Raises `ApiError` if one failed.
        """
        async for news in self.call.news():
            self.take(news, merge=True)
        if self.call.hung_up:
            raise ApiError(CLIENT_CLOSED, "the client hung up", code="client_closed")
        for choice in self.choices.values():
            if choice.finish_reason not in FINISHED:
                raise failure(choice)
        choices = [self._choice(choice, whole=True) for _, choice in sorted(self.choices.items())]
        about_prompt = self._about_prompt(self.choices[0]) if self.is_chat else {}
        head = {**self._head("chat.completion"), "choices": choices, "usage": self.usage()}
        return {**head, "timings": self.timings(), **about_prompt}

    # Streamed

    async def frames(self, keep_alive_s: float, interval_s: float) -> AsyncIterator[bytes]:
        """Server-sent events, to the last `[DONE]`."""
        options = self.body.stream_options
        continuous = bool(options and options.continuous_usage_stats)
        begun: set[int] = set()
        written = monotonic()
        async for news in self.call.news(keep_alive_s, interval_s):
            events = bytearray()
            for fresh in self.take(news, merge=interval_s > 0):
                if isinstance(fresh, PromptRead):
                    if self.body.return_progress:
                        events += _event(self._progress(fresh))
                elif fresh.finish_reason and fresh.finish_reason not in FINISHED:
                    yield bytes(events) + _event({**failure(fresh).body, "request_id": self.id}) + DONE
                    return
                elif fresh.says_something or (self.body.return_token_ids and fresh.token_ids):
                    events += _event(self._frame(fresh, first=fresh.place not in begun, continuous=continuous))
                    begun.add(fresh.place)
            if events or not news or monotonic() - written > keep_alive_s:  # tokens without text keep no connection alive
                yield bytes(events) or KEEP_ALIVE
                written = monotonic()
        if self.call.hung_up:
            return
        last = _event({**self._head(CHUNK), "choices": [], "usage": self.usage()})
        yield (last if options and options.include_usage else b"") + DONE

    def _frame(self, delta: ChoiceDelta, *, first: bool, continuous: bool) -> dict[str, Any]:
        choice = self._choice(delta, whole=False)
        if self.is_chat and first:
            choice["delta"] = {"role": "assistant", **choice["delta"]}
        frame = {**self._head(CHUNK), "choices": [choice]}
        if first:
            (frame if self.is_chat else choice).update(self._about_prompt(delta))
        if delta.finish_reason:
            frame["timings"] = self.timings()
        if continuous:
            frame["usage"] = self.usage()
        return frame

    def _progress(self, progress: PromptRead) -> dict[str, Any]:
        total = len(self.prompts[progress.index].ids)
        facts = {"total": total, "cache": progress.cached, "processed": progress.computed}
        return {**self._head(CHUNK), "choices": [], "prompt_progress": facts}

    # Both

    def _choice(self, delta: ChoiceDelta, *, whole: bool) -> dict[str, Any]:
        logprobs = self._logprobs(delta) if delta.scores else None
        text: dict[str, Any]
        if not self.is_chat:
            text = {"text": delta.content}
        elif whole:
            reasoning = {"reasoning_content": delta.reasoning} if delta.reasoning else {}
            text = {"message": {"role": "assistant", "content": delta.content, "refusal": None, **reasoning}}
        elif delta.reasoning and not delta.content:
            text = {"delta": {"reasoning_content": delta.reasoning}}
        else:
            text = {"delta": {"content": delta.content} | ({"reasoning_content": delta.reasoning} if delta.reasoning else {})}
        choice = {"index": delta.place, **text, "logprobs": logprobs, "finish_reason": delta.finish_reason}
        if self.body.return_token_ids:
            choice["token_ids"] = delta.token_ids
        return choice | (self._about_prompt(delta) if whole and not self.is_chat else {})

    def _about_prompt(self, delta: ChoiceDelta) -> dict[str, Any]:
        """Requested facts about the prompt of an answer.

        A chat's are in the response, a completion's in the choice.
        """
        found: dict[str, Any] = {}
        ids = self.prompts[delta.place // (self.body.n or 1)].ids
        if self.body.return_token_ids:
            found["prompt_token_ids"] = list(ids)
        if self.body.prompt_logprobs is not None and delta.prompt_scores is not None:
            found["prompt_logprobs"] = self.writer.prompt(ids, delta.prompt_scores, self.body.prompt_logprobs)
        return found

    def usage(self) -> dict[str, Any]:
        """Exact counts of tokens; a prompt counts once for all answers."""
        prompt = sum(len(one.ids) for one in self.prompts.values())
        completion = sum(len(choice.token_ids) for choice in self.choices.values())
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": sum(self.cached.values())},
        }

    def timings(self) -> dict[str, Any] | None:
        """Times of the answer that ended last."""
        return None if self.last_timeline is None else timings(self.last_timeline)

    def _logprobs(self, delta: ChoiceDelta) -> dict[str, Any]:
        if self.is_chat:
            return self.writer.chat(delta.scores)
        return self.writer.completion(delta.scores)

    def _head(self, chat_kind: str) -> dict[str, Any]:
        kind = chat_kind if self.is_chat else "text_completion"
        made = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return {**made, "system_fingerprint": self.fingerprint}


def timings(timeline: Timeline) -> dict[str, Any]:
    """The stages of a request in milliseconds, and its counts."""
    return {
        "queue_ms": 1000 * timeline.seconds[Stage.QUEUED],
        "prefill_ms": 1000 * timeline.seconds[Stage.PREFILL],
        "decode_ms": 1000 * timeline.seconds[Stage.DECODE],
        "preempted_ms": 1000 * timeline.seconds[Stage.PREEMPTED],
        "total_ms": 1000 * timeline.total_seconds,
        "prefill_iterations": timeline.prefill_iterations,
        "decode_iterations": timeline.decode_iterations,
        "preemptions": timeline.preemptions,
        "cached_tokens": timeline.cached_tokens,
    }


def failure(choice: ChoiceDelta) -> ApiError:
    """The error of an answer that failed."""
    status, message, code = FAILURES.get(choice.code or choice.finish_reason or "", FAILED)
    return ApiError(status, message.format(error=choice.error), code=code)


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + to_json(content) + b"\n\n"
