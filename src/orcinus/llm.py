"""The in-process engine: `LLM().generate(...)`, `.chat(...)`, `.stream(...)`, much as in vLLM."""

from __future__ import annotations

import itertools
import os
import random
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, NoReturn

from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.core.batch import Event, Finished, Token
from orcinus.core.ports import Observer
from orcinus.core.request import Finish, FinishCode, Logprobs, Request, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.errors import ConfigError, RequestError, RequestFailed, plural
from orcinus.interrupt import uninterrupted
from orcinus.observe.timeline import Timeline, TimelineObserver
from orcinus.text.answer import Answer, RequestMetrics, TextDelta
from orcinus.text.input_processor import InputProcessor, Prompt, TokenizedRequest
from orcinus.text.tokenizer import ChatIds, Message
from orcinus.text.tools.tool_chat import Definitions, ToolInvocation, choice_from, encode_tool_chat, joined_calls
from orcinus.threads import check_process


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One answer to a prompt."""

    request_id: str
    choice: int  # 0 to n - 1
    text: str
    reasoning: str  # the model's reasoning before the text, in chats; elsewhere it is part of the text
    token_ids: tuple[int, ...]
    finish_reason: str  # stop, length, tool_calls or failed; cancelled if the engine was closed meanwhile
    logprobs: tuple[Logprobs, ...] | None  # one per token, if params.logprobs asked for them
    metrics: RequestMetrics
    timeline: Timeline  # where its time went, and why it waited
    error: str | None = None  # why it failed, for people
    code: FinishCode | None = None  # why it failed, for programs
    tool_calls: tuple[ToolInvocation, ...] = ()  # in chats with tools; the text is without them


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutput(Completion):
    """The outcome of one prompt: its first answer, and all in `outputs`."""

    prompt: str | None  # None if it was given as token ids
    prompt_token_ids: tuple[int, ...]
    prompt_logprobs: tuple[Logprobs | None, ...] | None  # one per prompt token, None for the first, if asked for
    outputs: tuple[Completion, ...]


class LLM:
    """A model and an engine. Keyword arguments are the fields of `EngineConfig`.

    Calls without `params` sample with `default_params`, which come from the model's generation_config.json.

    Methods may be called from several threads, and several streams may be read in turn: a reader that needs a token runs one
    iteration of the engine, for all. Raises `ConfigError` or `ModelError` if the engine cannot be built.
    """

    def __init__(self, model: Any = None, *, observers: Sequence[Observer] = (), **config: Any) -> None:
        self.config = EngineConfig.from_options(model=model, **config)
        self.timelines = TimelineObserver()
        built = build(self.config, [self.timelines, *observers])
        self.engine, self.tokenizer, self.resolved = built.engine, built.tokenizer, built.resolved
        rejected, seeds = self.engine.scheduler.rejection_reason, random.Random(self.config.seed)
        sizes = self.resolved.vocab_size, self.resolved.limits.max_model_len
        self.default_params = built.default_params
        known = self.tokenizer, built.eos_ids, built.default_params, *sizes, rejected, seeds, built.grammars
        self._input_processor = InputProcessor(*known, frozenset(self.config.adapters))
        self._numbers = itertools.count(1)
        self._closed = False
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._readers: dict[str, tuple[Answer, deque[TextDelta]]] = {}  # of live requests: the answer, and unread deltas
        self._abandoned: deque[str] = deque()  # requests abandoned while another thread held the lock

    @classmethod
    def from_config(cls, config: EngineConfig, observers: Sequence[Observer] = ()) -> LLM:
        """The engine that a config describes."""
        return cls(observers=observers, **{field.name: getattr(config, field.name) for field in fields(config)})

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool | None = None,
        **context: Any,
    ) -> list[RequestOutput]:
        """Answer all prompts; outputs come in the prompts' order.

        `params`, `priority`, `client`, `cache_salt` and `lora` are one value for all prompts, or a list with one for each.
        `priority` (lower is more urgent) is for the order `priority`, `client` for the order `fair`; only prompts of equal
        `cache_salt` share K/V blocks of the prefix cache. `lora` names the adapter that answers; "" is the model alone.

        Shows a progress bar on runs of more than two seconds in a terminal (`progress`: True = always, False = never).
        Raises `RequestError` before anything runs if a prompt or parameter is unusable, `RequestFailed` at the end if a
        request failed while running; the others are in its `outputs`.
        """
        return self._complete(self._prepare(prompts, params, context), progress)

    def _complete(self, prepared: Sequence[TokenizedRequest], progress: bool | None) -> list[RequestOutput]:
        answers = list[Answer]()
        timelines: list[Timeline] = []  # taken now, because old timelines are dropped
        with _progress(progress, len(prepared)) as bar:
            for delta in self._run(prepared, answers, timelines):
                if delta.finish_reason:
                    bar.update()
        outputs = _outputs(prepared, answers, timelines)
        failed = [one for output in outputs for one in output.outputs if one.finish_reason == Finish.FAILED.value]
        if failed:
            raise RequestFailed(f"{len(failed)} of {plural(len(answers), 'request')} failed: {failed[0].error}", tuple(outputs))
        return outputs

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        tools: Definitions = (),
        tool_choice: Any = "auto",
        progress: bool | None = None,
        **context: Any,
    ) -> list[RequestOutput]:
        """Answer conversations, with `tools` in OpenAI's form; otherwise as `generate`."""
        several = isinstance(messages, Sequence) and bool(messages) and not isinstance(messages[0], Mapping | str)
        conversations: Any = messages if several else [messages]
        prompts = [self.encode_chat(conversation, tools, tool_choice) for conversation in conversations]
        return self._complete(self._prepare(prompts, params, context), progress)

    def stream(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        **context: Any,
    ) -> Iterator[TextDelta]:
        """The deltas of all answers as they come, one per token.

        Requests enter the engine when the first delta is read. Closing or dropping the iterator, or an exception in the loop
        that reads it, cancels the requests that have not ended. A request that fails ends with a delta whose `finish_reason` is
        `failed`; the others go on.
        """
        return self._run(self._prepare(prompts, params, context), [])

    def timeline(self, request_id: str) -> Timeline:
        """A live or recently ended request's timeline. Raises `RequestError` if unknown."""
        with self._driving():
            return self._timeline(request_id)

    def encode_chat(self, messages: Sequence[Message], tools: Definitions = (), tool_choice: Any = "auto") -> ChatIds:
        """A conversation as token ids, ready for `generate` or `stream`. Raises `RequestError`."""
        if self.tokenizer is None:
            raise RequestError("this model has no tokenizer: give prompts as token ids")
        return encode_tool_chat(self.tokenizer, messages, tools, choice_from(tool_choice))

    def __reduce__(self) -> NoReturn:
        raise ConfigError("an LLM cannot be sent to another process: make one there")

    def close(self) -> None:
        """Cancel all requests and release the executor. Does nothing in a fork."""
        if self._process != os.getpid():
            return
        self._closed = True
        self._abandoned.extend(list(self._readers))
        with self._driving():
            self.engine.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _timeline(self, request_id: str) -> Timeline:
        found = self.timelines.get(request_id)
        if found is None:
            raise RequestError(f"there is no timeline of {request_id!r}: it never was here, or ended long ago")
        return found

    def _prepare(
        self,
        prompts: Prompt | Sequence[Prompt],
        params: SamplingParams | Sequence[SamplingParams] | None,
        context: dict[str, Any],
    ) -> list[TokenizedRequest]:
        check_process(self._process)
        if self._closed:
            raise RequestError("this engine is closed: make a new LLM")
        known = [f.name for f in fields(RequestContext)]
        for name in context:
            if name not in known:
                raise RequestError(f"there is no argument {name!r}: besides prompts and params there are {', '.join(known)}")
        return self._input_processor.prepare(prompts, params, context)

    def _run(
        self, prepared: Sequence[TokenizedRequest], answers: list[Answer], timelines: list[Timeline] | None = None
    ) -> Iterator[TextDelta]:
        """Submit requests and yield deltas; fills the lists, one entry per prompt."""
        inbox: deque[TextDelta] = deque()
        try:
            with self._driving():
                self._submit(prepared, answers, inbox)
                if timelines is not None:
                    timelines += [self._timeline(answer.request_id) for answer in answers]
            while delta := self._next_delta(answers, inbox):
                yield delta
        finally:
            with uninterrupted():
                self._abandoned.extend(answer.request_id for answer in answers)
                self._cancel_abandoned()

    def _submit(self, prepared: Sequence[TokenizedRequest], answers: list[Answer], inbox: deque[TextDelta]) -> None:
        for one in prepared:
            now = self.engine.clock.now()
            request = Request(f"r{next(self._numbers)}", one.ids, one.params, now, one.context)
            answer = Answer.begin(request.id, one, self.tokenizer, now)
            answers.append(answer)
            self._readers[request.id] = (answer, inbox)
            self._deliver(self.engine.submit(request))

    def _next_delta(self, answers: Sequence[Answer], inbox: deque[TextDelta]) -> TextDelta | None:
        """The next unread delta, after stepping the engine if needed; else None."""
        while True:
            with self._driving():
                if inbox:
                    return inbox.popleft()
                if not any(answer.request_id in self._readers for answer in answers):
                    return None
                self._deliver(self.engine.step())

    def _deliver(self, events: Sequence[Event]) -> None:
        """Pass events to the readers of their requests."""
        stopped = []
        for event in events:
            if event.request_id not in self._readers:
                continue
            answer, inbox = self._readers[event.request_id]
            if isinstance(event, Finished):
                del self._readers[event.request_id]
                _append_end(inbox, answer.end(event))
            elif isinstance(event, Token) and (delta := answer.add(event)):
                inbox.append(delta)
                if answer.stopped:
                    stopped.append(event.request_id)
        for request_id in stopped:
            self._deliver(self.engine.cancel(request_id, Finish.STOP))

    @contextmanager
    def _driving(self) -> Iterator[None]:
        """Exclusive use of the engine; abandoned requests are cancelled afterwards."""
        check_process(self._process)
        with uninterrupted():
            try:
                with self._lock:
                    yield
            finally:
                self._cancel_abandoned()

    def _cancel_abandoned(self) -> None:
        """Cancel requests whose reader is gone.

        This may run inside the garbage collector, at any line of a thread that holds the lock. Then it must not wait: that
        thread calls this when it releases the lock.
        """
        while self._abandoned and self._process == os.getpid() and self._lock.acquire(blocking=False):
            try:
                while self._abandoned:
                    request_id = self._abandoned.popleft()
                    if request_id in self._readers:
                        self._deliver(self.engine.cancel(request_id))
                        self._readers.pop(request_id, None)
            finally:
                self._lock.release()


def _completion(prepared: TokenizedRequest, answer: Answer, timeline: Timeline) -> Completion:
    return Completion(
        request_id=answer.request_id,
        choice=answer.choice,
        text=answer.text,
        reasoning=answer.reasoning,
        token_ids=tuple(answer.token_ids),
        finish_reason=answer.finish_reason or "",
        logprobs=None if prepared.params.logprobs is None else tuple(answer.logprobs),
        metrics=answer.metrics,
        timeline=timeline,
        error=answer.error,
        code=answer.code,
        tool_calls=tuple(joined_calls(answer.tool_calls)),
    )


def _outputs(
    prepared: Sequence[TokenizedRequest], answers: Sequence[Answer], timelines: Sequence[Timeline]
) -> list[RequestOutput]:
    """One output per prompt, from answers that stand in prompt order."""
    together: dict[int, tuple[TokenizedRequest, Answer, list[Completion]]] = {}
    for one, answer, timeline in zip(prepared, answers, timelines, strict=True):
        together.setdefault(one.index, (one, answer, []))[2].append(_completion(one, answer, timeline))
    return [
        RequestOutput(
            **{field.name: getattr(completions[0], field.name) for field in fields(Completion)},
            prompt=one.text,
            prompt_token_ids=one.ids,
            prompt_logprobs=None if first.prompt_logprobs is None else (None, *first.prompt_logprobs),
            outputs=tuple(completions),
        )
        for one, first, completions in together.values()
    ]


def _append_end(inbox: deque[TextDelta], end: TextDelta) -> None:
    """Merge an ending into its request's last unread delta."""
    for place in range(len(inbox) - 1, -1, -1):
        if inbox[place].request_id == end.request_id:
            last = inbox[place]
            inbox[place] = replace(
                last,
                text=last.text + end.text,
                reasoning=last.reasoning + end.reasoning,
                tool_calls=last.tool_calls + end.tool_calls,
                finish_reason=end.finish_reason,
                error=end.error,
                code=end.code,
                stop_string=end.stop_string,
            )
            return
    inbox.append(end)


def _progress(wanted: bool | None, total: int) -> Any:
    from tqdm import tqdm

    hidden = not (sys.stderr.isatty() if wanted is None else wanted)
    return tqdm(total=total, desc="requests", unit="req", disable=hidden, delay=2 if wanted is None else 0)
