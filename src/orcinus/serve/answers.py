"""Collects what the engine says about a call's answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from time import monotonic
from typing import Any

from orcinus.core.request import Finish, FinishCode, Logprobs
from orcinus.observe.timeline import Timeline
from orcinus.serve.calls import Call
from orcinus.serve.dialects.field_names import AS_THEY_ARE, FieldNames
from orcinus.serve.errors import CLIENT_CLOSED, ApiError
from orcinus.serve.schema import Sampling
from orcinus.serve.streams import News, PromptRead
from orcinus.serve.structured_output_fields import wanted_form
from orcinus.text.answer import TextDelta
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.tokenizer import Tokenizer
from orcinus.text.tools.tool_call import ToolCallDelta

FINISHED = ("stop", "length", "tool_calls")  # OpenAI's words; anything else is an error
FAILED = (500, "the request failed while it ran", "request_failed")
FAILURES: dict[str, tuple[int, str, str]] = {  # a `FinishCode`, or else a `Finish` -> status, message, error code
    FinishCode.NEVER_FITS: (400, "the request can never be served: it is longer than the engine's memory", "invalid_value"),
    FinishCode.TOO_LONG: (400, "the request can never be served: it is longer than the model's context", "invalid_value"),
    FinishCode.DEADLINE: (408, "the request took longer than its timeout", "timeout"),
    FinishCode.SHUTDOWN: (503, "the server is shutting down and cut the answer off; send the request again", "shutting_down"),
    FinishCode.UNREAD: (CLIENT_CLOSED, "the client reads more slowly than the model writes, so it was cut off", "slow_reader"),
    FinishCode.ALL_FORBIDDEN: (400, "no token could come next: {error}", "all_forbidden"),
    FinishCode.BAD_GRAMMAR: (400, "the form of the answer cannot be followed: {error}", "bad_grammar"),
    FinishCode.BAD_LOGITS: (500, "the model failed on this request: {error}", "request_failed"),
    FinishCode.OUT_OF_MEMORY: (500, "the device ran out of memory; send the request again, or a shorter one", "out_of_memory"),
    FinishCode.EXECUTOR_FAILED: (500, "the iteration that computed the request failed; the log says why", "request_failed"),
    FinishCode.ENGINE_DIED: (503, "the engine died while the request ran; send it again", "engine_dead"),
    FinishCode.ENGINES_DIED: (500, "the request failed: engines died whenever they computed it", "engines_died"),
    Finish.REJECTED: (400, "the request can never be served", "invalid_value"),
    Finish.CANCELLED: (CLIENT_CLOSED, "the request was cancelled", "cancelled"),
}
AGAIN_S = 10  # when to come again after a 503
KEEP_ALIVE = b": keep-alive\n\n"


@dataclass(slots=True)
class ChoiceDelta:
    """One or several text deltas of one choice."""

    place: int  # of the choice in the response
    content: str = ""
    reasoning: str = ""
    tool_calls: list[ToolCallDelta] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    reasoning_tokens: int = 0  # how many of them belong to the reasoning
    scores: list[tuple[int, Logprobs | None, int]] = field(default_factory=list)  # and where in the text the token begins
    prompt_scores: tuple[Logprobs, ...] | None = None  # of the prompt's tokens except the first
    finish_reason: str | None = None
    stop_string: str | None = None  # that ended the answer
    error: str | None = None
    code: FinishCode | None = None

    def add(self, other: ChoiceDelta) -> None:
        """Append a later delta."""
        self.content += other.content
        self.reasoning += other.reasoning
        self.tool_calls += other.tool_calls
        self.token_ids += other.token_ids
        self.reasoning_tokens += other.reasoning_tokens
        self.scores += other.scores
        self.prompt_scores = self.prompt_scores or other.prompt_scores
        self.finish_reason, self.stop_string = other.finish_reason, other.stop_string
        self.error, self.code = other.error, other.code

    @property
    def says_something(self) -> bool:
        """Whether the delta says anything.

        False for an incomplete character, or for text that may begin a stop string.
        """
        return bool(self.content or self.reasoning or self.tool_calls or self.scores or self.finish_reason)


@dataclass(frozen=True, slots=True)
class Usage:
    """Exact token counts of a call; a prompt counts once for all its answers."""

    prompt: int
    cached: int  # of the prompt's tokens, found in the prefix cache
    completion: int
    reasoning: int = 0  # of the completion's tokens

    @property
    def as_openai(self) -> dict[str, Any]:
        """The counts in OpenAI's form, which the access log has too."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


class Answers:
    """All answers of one call, for the reply of any dialect."""

    def __init__(
        self,
        call: Call,
        body: Sampling,
        prepared: Sequence[TokenizedRequest],
        tokenizer: Tokenizer,
        names: FieldNames = AS_THEY_ARE,
    ) -> None:
        self.call, self.tokenizer, self.names = call, tokenizer, names
        self.n, self.with_prompt_scores = body.n or 1, body.prompt_logprobs is not None
        self.echo = any(one.echo for one in prepared)  # answers begin with their prompts
        self.silent = body.max_tokens == 0  # the one generated token is not shown
        self.form = wanted_form(body)
        self.prompts = {one.index: one for one in reversed(prepared)}
        self.choices: dict[int, ChoiceDelta] = {}
        self.cached: dict[int, int] = {}  # prompt -> tokens found in the prefix cache, by its first answer
        self.last_timeline: Timeline | None = None  # of the answer that ended last
        self._echoed: dict[int, tuple[str, list[int]]] = {}  # prompt -> its text, and the offsets of its tokens

    # From the engine's news to deltas

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
        place = text_delta.index * self.n + text_delta.choice
        delta = ChoiceDelta(place, finish_reason=text_delta.finish_reason, error=text_delta.error, code=text_delta.code)
        if self.with_prompt_scores:
            delta.prompt_scores = text_delta.prompt_logprobs
        if self.silent and delta.finish_reason in FINISHED:
            delta.finish_reason = "length"
        if self.echo and place not in self.choices:
            self._add_prompt(delta, text_delta)
        if self.silent:
            return delta
        delta.reasoning, delta.content = text_delta.reasoning, delta.content + text_delta.text
        delta.tool_calls, delta.stop_string = list(text_delta.tool_calls), text_delta.stop_string
        if text_delta.token_id is not None:
            delta.token_ids.append(text_delta.token_id)
            delta.reasoning_tokens = int(text_delta.thinks)
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

    # For replies

    async def all(self) -> list[ChoiceDelta]:
        """The finished answers in order, once all have ended.

        Raises `ApiError` if one failed.
        """
        async for news in self.call.news():
            self.take(news, merge=True)
        if self.call.hung_up:
            raise ApiError(CLIENT_CLOSED, "the client hung up", code="client_closed")
        for choice in self.choices.values():
            if choice.finish_reason not in FINISHED:
                raise self._failure(choice)
        return [choice for _, choice in sorted(self.choices.items())]

    async def frames(
        self,
        keep_alive_s: float,
        interval_s: float,
        write: Callable[[ChoiceDelta | PromptRead], bytes],
        keep_alive: bytes = KEEP_ALIVE,
    ) -> AsyncIterator[bytes]:
        """The frames of a stream, as `write` forms them, until the last answer ends or the client is gone.

        Whenever nothing was written for `keep_alive_s`, a `keep_alive`. Raises `ApiError` if an answer failed.
        """
        written = monotonic()
        async for news in self.call.news(keep_alive_s, interval_s):
            frames, failed = bytearray(), None
            for fresh in self.take(news, merge=interval_s > 0):
                if isinstance(fresh, ChoiceDelta) and fresh.finish_reason and fresh.finish_reason not in FINISHED:
                    failed = fresh
                    break
                frames += write(fresh)
            if frames or not news or monotonic() - written > keep_alive_s:  # tokens without text keep no connection alive
                yield bytes(frames) or keep_alive
                written = monotonic()
            if failed is not None:
                raise self._failure(failed)

    def _failure(self, choice: ChoiceDelta) -> ApiError:
        error = failure(choice)
        if choice.code is FinishCode.BAD_GRAMMAR:
            error.param = "tools" if self.form is None else self.form.field
        return self.names.translate(error)

    @property
    def adapter(self) -> str | None:
        """The LoRA adapter that answers, if any."""
        return next(iter(self.prompts.values())).context.lora or None

    def prompt_of(self, delta: ChoiceDelta) -> TokenizedRequest:
        """The prompt that a choice answers."""
        return self.prompts[delta.place // self.n]

    def usage(self) -> Usage:
        """The counts so far."""
        prompt = sum(len(one.ids) for one in self.prompts.values())
        choices = self.choices.values()
        completion, reasoning = sum(len(one.token_ids) for one in choices), sum(one.reasoning_tokens for one in choices)
        return Usage(prompt, sum(self.cached.values()), completion, reasoning)


def failure(choice: ChoiceDelta) -> ApiError:
    """The error of an answer that failed."""
    status, message, code = FAILURES.get(choice.code or choice.finish_reason or "", FAILED)
    headers = {"Retry-After": str(AGAIN_S)} if status == 503 else None
    return ApiError(status, message.format(error=choice.error), code=code, headers=headers)
