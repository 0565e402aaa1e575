"""Replies of `POST /v1/responses`: whole, or as events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from orcinus.serve.answers import Answers, ChoiceDelta, Usage
from orcinus.serve.dialects.openai_reply import timings
from orcinus.serve.dialects.reply import ServedModel, named_event
from orcinus.serve.dialects.responses_output import Json, Output
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.dialects.responses_tools import Tools
from orcinus.serve.errors import CLIENT_CLOSED, ApiError
from orcinus.serve.logprobs import LogprobWriter
from orcinus.serve.streams import PromptRead

SILENCE_S = 3600.0


def response_object(
    id: str,  # noqa: A002
    body: ResponsesBody,
    tools: Tools,
    warnings: list[str],
    served: ServedModel,
) -> Json:
    """A response without output: the request's options and its tools."""
    text = body.text.model_dump(exclude_none=True, by_alias=True) if body.text else {}
    reasoning = body.reasoning.model_dump(include={"effort", "summary"}) if body.reasoning else {}
    choice = "auto" if body.tool_choice is None else body.tool_choice
    return {
        "id": id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "completed_at": None,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "max_tool_calls": None,
        "model": served.name,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "prompt_cache_key": body.prompt_cache_key,
        "reasoning": {"effort": None, "summary": None} | reasoning,
        "safety_identifier": body.safety_identifier,
        "service_tier": "default",
        "store": body.store is not False,
        "temperature": body.temperature,
        "text": {"format": {"type": "text"}} | text,
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(exclude_none=True),
        "tools": tools.in_use,
        "top_logprobs": body.top_logprobs or 0,
        "top_p": body.top_p,
        "truncation": body.truncation or "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
        "warnings": warnings,
    }


def usage_object(usage: Usage) -> Json:
    """Token counts under the names of this dialect."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


@dataclass
class ResponsesReply:
    """A `Reply` whose output is items.

    `keep` stores a response that has ended; it says whether it could.
    """

    answers: Answers
    response: Json
    output: Output
    keep: Callable[[Json], bool] = lambda response: False
    _number: int = 0
    _last: ChoiceDelta | None = None  # the newest delta
    _writer: LogprobWriter = field(init=False)

    def __post_init__(self) -> None:
        self._writer = LogprobWriter(self.answers.tokenizer, as_ids=False)

    @property
    def id(self) -> str:
        """The id of the response."""
        return str(self.response["id"])

    async def whole(self) -> Json:
        """The response object. Raises `ApiError` if the answer failed."""
        async for _ in self.answers.frames(SILENCE_S, 0.0, self._take):
            pass
        if self.answers.call.hung_up:
            raise ApiError(CLIENT_CLOSED, "the client hung up", code="client_closed")
        self._end()
        return self.response

    async def frames(self, keep_alive_s: float, interval_s: float) -> AsyncIterator[bytes]:
        """Events from `response.created` to the one that says how it ended."""
        yield self._events([self._lifecycle("created"), self._lifecycle("in_progress")])
        try:
            async for frame in self.answers.frames(keep_alive_s, interval_s, self._write):
                yield frame
        except ApiError as error:
            yield self._events(self._fail(error))
            return
        if self.answers.call.hung_up:
            return
        events = self._end()
        yield self._events([*events, self._lifecycle(self.response["status"])])

    def _add(self, fresh: ChoiceDelta | PromptRead) -> Iterator[Json]:
        """Add a delta to the output; its events."""
        if isinstance(fresh, ChoiceDelta):
            self._last = fresh
            scores = self._writer.chat(fresh.scores)["content"] if fresh.scores and fresh.content else []
            yield from self.output.add(fresh, scores)

    def _write(self, fresh: ChoiceDelta | PromptRead) -> bytes:
        return self._events(self._add(fresh))

    def _take(self, fresh: ChoiceDelta | PromptRead) -> bytes:
        for _ in self._add(fresh):
            pass
        return b""

    def _events(self, contents: Iterable[Json]) -> bytes:
        written = bytearray()
        for content in contents:
            written += named_event(content["type"], {**content, "sequence_number": self._number})
            self._number += 1
        return bytes(written)

    def _lifecycle(self, name: str) -> Json:
        return {"type": f"response.{name}", "response": self.response}

    def _end(self) -> list[Json]:
        """End the response and store it; the events of its last item."""
        complete = self._last is None or self._last.finish_reason != "length"
        events = list(self.output.finish(complete=complete))
        self._finish("completed" if complete else "incomplete")
        if not complete:
            self.response["incomplete_details"] = {"reason": "max_output_tokens"}
        self.response["store"] = self.response["store"] and self.keep(self.response)
        return events

    def _fail(self, error: ApiError) -> list[Json]:
        """The events of a failure: the open item stays as it is."""
        self._finish("failed")
        self.response["error"] = {"code": error.code, "message": error.message}
        self.response["store"] = False
        told = {"type": "error", "code": error.code, "message": error.message, "param": error.param}
        return [told, self._lifecycle("failed")]

    def _finish(self, status: str) -> None:
        last = self.answers.last_timeline
        self.response |= {"status": status, "completed_at": int(time.time()), "output": self.output.items}
        self.response |= {"usage": usage_object(self.answers.usage()), "timings": None if last is None else timings(last)}


def without_answer(response: Json) -> Json:
    """The response to a request that says nothing: complete, without output."""
    return response | {"status": "completed", "completed_at": response["created_at"], "usage": usage_object(Usage(0, 0, 0))}


def events_without_answer(response: Json) -> bytes:
    """The events of the same response."""
    kinds = [("created", response), ("in_progress", response), ("completed", without_answer(response))]
    numbered = enumerate(kinds)
    return b"".join(named_event(f"response.{kind}", {"response": told, "sequence_number": n}) for n, (kind, told) in numbered)
