"""The engine in this process, with the habits of vLLM's users: `LLM().generate(...)`, `.chat(...)`, `.stream(...)`."""

from __future__ import annotations

import itertools
import operator
import random
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

from orcinus.build import build
from orcinus.config import EngineConfig
from orcinus.core.batch import Event, Finished, Logprobs
from orcinus.core.ports import Observer
from orcinus.core.request import Finish, Request, SamplingParams
from orcinus.errors import RequestError, RequestFailed
from orcinus.interrupt import uninterrupted
from orcinus.text.answer import Answer, Piece, RequestMetrics
from orcinus.text.tokenizer import Message

Prompt = str | Sequence[int]


@dataclass(frozen=True, slots=True)
class RequestOutput:
    """What became of one prompt."""

    request_id: str
    prompt: str | None  # None if it was given as token ids
    prompt_token_ids: tuple[int, ...]
    text: str
    token_ids: tuple[int, ...]
    finish_reason: str  # stop, length or failed; cancelled if the engine was closed meanwhile
    logprobs: tuple[Logprobs, ...] | None  # one per token, if params.logprobs asked for them
    metrics: RequestMetrics
    error: str | None = None


class LLM:
    """A model and an engine. Keyword arguments are the fields of `EngineConfig`.

    Methods may be called from several threads, and several streams may be read in turn: whoever needs a token drives the
    engine one iteration further, for all. Raises `ConfigError` or `ModelError` if the engine cannot be built.
    """

    def __init__(self, model: Any = None, *, observers: Sequence[Observer] = (), **config: Any) -> None:
        self.config = EngineConfig(model=model, **config)
        built = build(self.config, observers)
        self.engine, self.tokenizer, self.resolved, self._eos_ids = built.engine, built.tokenizer, built.resolved, built.eos_ids
        self._seeds = random.Random(self.config.seed)
        self._numbers = itertools.count(1)
        self._closed = False
        self._lock = threading.Lock()
        self._readers: dict[
            str, tuple[Answer, deque[Piece]]
        ] = {}  # of live requests: the answer so far and where its pieces go
        self._abandoned: deque[str] = deque()  # requests whose reader went away while another thread held the lock

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
    ) -> list[RequestOutput]:
        """Answer all prompts; outputs come in their order. `params` is one for all, or one for each.

        Shows a progress bar on runs of more than two seconds in a terminal (`progress`: True = always, False = never).
        Raises `RequestError` before anything runs if a prompt or parameter is unusable, `RequestFailed` at the end if a
        request failed while running; the others are in its `outputs`.
        """
        requests = self._prepare(prompts, params)
        answers: dict[str, Answer] = {}
        with _progress(progress, len(requests)) as bar:
            for piece in self._run(requests, answers):
                if piece.finish_reason:
                    bar.update()
        outputs = [
            self._output(prompt, request, answers[request.id])
            for prompt, request in zip(_listed(prompts), requests, strict=True)
        ]
        failed = [output for output in outputs if output.finish_reason == Finish.FAILED.value]
        if failed:
            raise RequestFailed(f"{len(failed)} of {len(outputs)} requests failed: {failed[0].error}", tuple(outputs))
        return outputs

    def chat(
        self,
        messages: Sequence[Message] | Sequence[Sequence[Message]],
        params: SamplingParams | Sequence[SamplingParams] | None = None,
        *,
        progress: bool | None = None,
    ) -> list[RequestOutput]:
        """Answer a conversation, or several, through the model's chat template. Raises like `generate`."""
        several = bool(messages) and not isinstance(messages[0], dict)
        conversations: Any = messages if several else [messages]
        return self.generate([self.encode_chat(conversation) for conversation in conversations], params, progress=progress)

    def stream(
        self, prompts: Prompt | Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None = None
    ) -> Iterator[Piece]:
        """The pieces of all answers as they come, one per token. Requests enter the engine when the first piece is asked for.

        Closing the iterator, dropping it, or an exception in the loop that reads it cancels what has not ended. A request
        that fails ends with a piece whose `finish_reason` is `failed`; the others go on.
        """
        return self._run(self._prepare(prompts, params), {})

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """A conversation as token ids, ready for `generate` or `stream`. Raises `RequestError`."""
        if self.tokenizer is None:
            raise RequestError("this model has no tokenizer: give prompts as token ids")
        return self.tokenizer.encode_chat(messages)

    def close(self) -> None:
        """Cancel everything and give the executor back."""
        self._closed = True
        self._abandoned.extend(list(self._readers))
        with self._driving():
            self.engine.close()

    def __enter__(self) -> LLM:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(
        self, prompts: Prompt | Sequence[Prompt], params: SamplingParams | Sequence[SamplingParams] | None
    ) -> list[Request]:
        """Requests, checked before any of them enters the engine."""
        if self._closed:
            raise RequestError("this engine is closed: make a new LLM")
        listed = _listed(prompts)
        if params is None or isinstance(params, SamplingParams):
            params = [params or SamplingParams()] * len(listed)
        if not isinstance(params, Sequence) or not all(isinstance(one, SamplingParams) for one in params):
            raise RequestError("params must be SamplingParams, or a list of them, one for each prompt")
        if len(params) != len(listed):
            raise RequestError(f"{len(listed)} prompts but {len(params)} sampling parameters: give one for all or one for each")
        requests = []
        for index, (prompt, one) in enumerate(zip(listed, params, strict=True)):
            try:
                requests.append(self._request(prompt, one))
            except RequestError as error:
                raise RequestError(str(error) if len(listed) == 1 else f"prompt {index}: {error}") from None
        for request in requests:  # after all checks, so that a refused call takes no numbers from the next one
            if request.params.seed is None:
                request.params = replace(request.params, seed=self._seeds.getrandbits(63))
        return requests

    def _request(self, prompt: Prompt, params: SamplingParams) -> Request:
        ids = self._ids(prompt)
        context = self.resolved.limits.max_model_len
        if len(ids) >= context:
            raise RequestError(
                f"the prompt has {len(ids)} tokens, and the model length of {context} leaves no room for an answer: shorten it"
            )
        eos = () if params.ignore_eos else tuple(sorted(self._eos_ids))
        resolved = replace(
            params,
            max_tokens=context - len(ids) if params.max_tokens is None else params.max_tokens,
            stop_token_ids=(*params.stop_token_ids, *eos),
        )
        self._check_ids("stop token", params.stop_token_ids)
        self._check_ids("logit_bias token", tuple(params.logit_bias))
        if params.stop and self.tokenizer is None:
            raise RequestError("this model has no tokenizer, so stop strings cannot be found: use stop_token_ids")
        request = Request(f"r{next(self._numbers)}", ids, resolved, self.engine.clock.now())
        reason = self.engine.scheduler.why_never(request)
        if reason is not None:
            raise RequestError(reason)
        return request

    def _ids(self, prompt: Prompt) -> tuple[int, ...]:
        if isinstance(prompt, str):
            if self.tokenizer is None:
                raise RequestError("this model has no tokenizer: give prompts as token ids")
            ids = self.tokenizer.encode(prompt)
        else:
            ids = _token_ids(prompt)
        if not ids:
            raise RequestError("the prompt is empty: give at least one character or token")
        self._check_ids("prompt token", ids)
        return ids

    def _check_ids(self, what: str, ids: Sequence[Any]) -> None:
        vocab = self.resolved.vocab_size
        for index, token in enumerate(ids):
            if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < vocab:
                raise RequestError(f"{what} {index} is {token!r}: ids of this model are whole numbers from 0 to {vocab - 1}")

    def _run(self, requests: list[Request], answers: dict[str, Answer]) -> Iterator[Piece]:
        """Submit, then step the engine whenever no piece is ready. `answers` is filled with one answer per request."""
        inbox: deque[Piece] = deque()
        try:
            with self._driving():
                self._submit(requests, answers, inbox)
            while piece := self._next_piece(requests, inbox):
                yield piece
        finally:
            with uninterrupted():
                self._abandoned.extend(request.id for request in requests)
                self._cancel_abandoned()

    def _submit(self, requests: list[Request], answers: dict[str, Answer], inbox: deque[Piece]) -> None:
        decode = self.tokenizer.decode if self.tokenizer else _no_text
        for index, request in enumerate(requests):
            request.arrival = self.engine.clock.now()  # now, not when it was prepared: the queue is in order of arrival
            answer = Answer(request.id, index, request.params, decode, RequestMetrics(request.arrival))
            answers[request.id] = answer
            self._readers[request.id] = (answer, inbox)
            self._deliver(self.engine.submit(request))

    def _next_piece(self, requests: list[Request], inbox: deque[Piece]) -> Piece | None:
        """The oldest unread piece, stepping the engine until there is one; None when all requests have ended."""
        while True:
            with self._driving():
                if inbox:
                    return inbox.popleft()
                if not any(request.id in self._readers for request in requests):
                    return None
                self._deliver(self.engine.step())

    def _deliver(self, events: Sequence[Event]) -> None:
        """Hand events to whoever reads their requests."""
        stopped = []
        for event in events:
            if event.request_id not in self._readers:
                continue
            answer, inbox = self._readers[event.request_id]
            if isinstance(event, Finished):
                del self._readers[event.request_id]
                _append_end(inbox, answer.end(event))
            elif piece := answer.add(event):
                inbox.append(piece)
                if answer.stopped:
                    stopped.append(event.request_id)
        for request_id in stopped:
            self._deliver(self.engine.cancel(request_id, Finish.STOP))

    @contextmanager
    def _driving(self) -> Iterator[None]:
        """Exclusive use of the engine; afterwards nobody's abandoned request stays behind."""
        with uninterrupted():
            try:
                with self._lock:
                    yield
            finally:
                self._cancel_abandoned()

    def _cancel_abandoned(self) -> None:
        """Cancel requests whose reader went away.

        This may run inside the garbage collector, at any line of a thread that holds the lock. Then it must not wait:
        whoever holds the lock comes here when it lets go.
        """
        while self._abandoned and self._lock.acquire(blocking=False):
            try:
                while self._abandoned:
                    request_id = self._abandoned.popleft()
                    if request_id in self._readers:
                        self._deliver(self.engine.cancel(request_id))
                        self._readers.pop(request_id, None)
            finally:
                self._lock.release()

    def _output(self, prompt: Prompt, request: Request, answer: Answer) -> RequestOutput:
        return RequestOutput(
            request_id=request.id,
            prompt=prompt if isinstance(prompt, str) else None,
            prompt_token_ids=request.prompt,
            text=answer.text,
            token_ids=tuple(answer.token_ids),
            finish_reason=answer.finish_reason or "",
            logprobs=None if request.params.logprobs is None else tuple(answer.logprobs),
            metrics=answer.metrics,
            error=answer.error,
        )


def _append_end(inbox: deque[Piece], end: Piece) -> None:
    """A request's ending joins its last unread token, so that a reader sees one piece per token."""
    for place in range(len(inbox) - 1, -1, -1):
        if inbox[place].request_id == end.request_id:
            last = inbox[place]
            inbox[place] = replace(last, text=last.text + end.text, finish_reason=end.finish_reason, error=end.error)
            return
    inbox.append(end)


def _listed(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt, as text or as ids, is a list of one."""
    if isinstance(prompts, str):
        return [prompts]
    if isinstance(prompts, Mapping) or not isinstance(prompts, Iterable):
        raise RequestError("prompts must be a string, a list of token ids, or a list of these")
    listed: list[Any] = list(prompts)
    return [tuple(listed)] if listed and isinstance(_whole(listed[0]), int) else listed


def _token_ids(prompt: Any) -> tuple[Any, ...]:
    """Token ids as plain numbers, also from numpy or torch; what is no whole number stays, to be named in an error."""
    if isinstance(prompt, Mapping) or not isinstance(prompt, Iterable):
        raise RequestError(f"a prompt must be a string or a list of token ids, not {type(prompt).__name__}")
    return tuple(_whole(token) for token in prompt)


def _whole(value: Any) -> Any:
    """A whole number, also of numpy's or torch's kind, as Python's; anything else as it is."""
    try:
        return value if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return value


def _no_text(_: Sequence[int]) -> str:
    return ""


def _progress(wanted: bool | None, total: int) -> Any:
    from tqdm import tqdm

    hidden = not (sys.stderr.isatty() if wanted is None else wanted)
    return tqdm(total=total, desc="requests", unit="req", disable=hidden, delay=2 if wanted is None else 0)
