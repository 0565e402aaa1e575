"""Replies of `POST /v1/messages`, Anthropic's API."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

from orcinus.serve.answers import Answers, ChoiceDelta, Usage
from orcinus.serve.dialects.messages_schema import MessagesBody
from orcinus.serve.dialects.reply import ServedModel, named_event
from orcinus.serve.errors import MESSAGES, ApiError, error_body
from orcinus.serve.streams import PromptRead
from orcinus.text.tools.tool_call import join_deltas

Block = dict[str, Any]


@dataclass(slots=True)
class BlockWriter:
    """The events of one answer's content blocks."""

    shows_thinking: bool
    index: int = -1  # of the newest block
    open: str | None = None  # its type, until it has ended
    thinking: str = ""

    def write(self, delta: ChoiceDelta) -> bytes:
        """The events of a delta; reasoning comes first, calls last."""
        frames = bytearray()
        if delta.reasoning:
            frames += self._begin("thinking", {"thinking": "", "signature": ""})
            self.thinking += delta.reasoning
            if self.shows_thinking:
                frames += self._delta({"type": "thinking_delta", "thinking": delta.reasoning})
        if delta.content:
            frames += self._begin("text", {"text": ""})
            frames += self._delta({"type": "text_delta", "text": delta.content})
        for call in delta.tool_calls:
            if call.id is not None:
                frames += self.end() + self._begin("tool_use", {"id": use_id(call.id), "name": call.name, "input": {}})
            if call.arguments:
                frames += self._delta({"type": "input_json_delta", "partial_json": call.arguments})
        return bytes(frames)

    def _begin(self, kind: str, empty: Block) -> bytes:
        """The start of a block, unless one of its type is open."""
        if self.open == kind:
            return b""
        ended = self.end()
        self.index, self.open = self.index + 1, kind
        content = {"index": self.index, "content_block": {"type": kind, **empty}}
        return ended + named_event("content_block_start", content)

    def _delta(self, delta: Block) -> bytes:
        return named_event("content_block_delta", {"index": self.index, "delta": delta})

    def end(self) -> bytes:
        """The end of the open block, if there is one."""
        if self.open is None:
            return b""
        signed = self.open == "thinking"
        signature = self._delta({"type": "signature_delta", "signature": signature_of(self.thinking)}) if signed else b""
        self.open = None
        return signature + named_event("content_block_stop", {"index": self.index})


class MessagesReply:
    """A message of the assistant as blocks of content."""

    def __init__(self, answers: Answers, served: ServedModel, body: MessagesBody, request_id: str | None = None) -> None:
        self.answers, self.served, self.body = answers, served, body
        self.id = answers.call.id
        self.request_id = request_id or self.id
        self.shows_thinking = body.thinking is None or body.thinking.display != "omitted"
        self._blocks = BlockWriter(self.shows_thinking)
        self._begun = False

    async def whole(self) -> dict[str, Any]:
        """The response object of a request that does not stream.

        Raises `ApiError` if the answer failed.
        """
        (answer,) = await self.answers.all()
        return self._message(self._content(answer), **self._ending(answer))

    async def frames(self, keep_alive_s: float, interval_s: float) -> AsyncIterator[bytes]:
        """Server-sent events from `message_start` to `message_stop`."""
        ping = named_event("ping", {})
        try:
            async for frame in self.answers.frames(keep_alive_s, interval_s, self._events, ping):
                yield frame
        except ApiError as error:
            yield named_event("error", error_body(error, MESSAGES, self.request_id))

    def _events(self, fresh: ChoiceDelta | PromptRead) -> bytes:
        events = b"" if self._begun else self._start()
        if isinstance(fresh, PromptRead):
            return events
        events += self._blocks.write(fresh)
        if not fresh.finish_reason:
            return events
        changes = {"delta": self._ending(self.answers.choices[0]), "usage": usage(self.answers.usage())}
        return events + self._blocks.end() + named_event("message_delta", changes) + named_event("message_stop", {})

    def _start(self) -> bytes:
        self._begun = True
        message = self._message([], stop_reason=None, stop_sequence=None)
        return named_event("message_start", {"message": message})

    def _message(self, content: Sequence[Block], *, stop_reason: str | None, stop_sequence: str | None) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.served.name,
            "content": content,
            "stop_reason": stop_reason,
            "stop_sequence": stop_sequence,
            "usage": usage(self.answers.usage()),
        }

    def _content(self, answer: ChoiceDelta) -> list[Block]:
        blocks: list[Block] = []
        if answer.reasoning:
            shown = answer.reasoning if self.shows_thinking else ""
            blocks.append({"type": "thinking", "thinking": shown, "signature": signature_of(answer.reasoning)})
        if answer.content:
            blocks.append({"type": "text", "text": answer.content})
        calls = join_deltas(answer.tool_calls)
        uses = (
            {"type": "tool_use", "id": use_id(call.id or ""), "name": call.name, "input": tool_input(call.arguments)}
            for call in calls
        )
        return [*blocks, *uses]

    def _ending(self, answer: ChoiceDelta) -> dict[str, str | None]:
        """Why an answer ended, and the stop sequence if that is why."""
        if answer.stop_string is not None:
            return {"stop_reason": "stop_sequence", "stop_sequence": answer.stop_string}
        reason = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}[answer.finish_reason or "stop"]
        if reason == "max_tokens" and len(answer.token_ids) < self.body.max_tokens:  # cut to the room there was
            reason = "model_context_window_exceeded"
        return {"stop_reason": reason, "stop_sequence": None}


def use_id(call_id: str) -> str:
    """The id of a call as Anthropic's API writes it: with `toolu_` in front."""
    return "toolu_" + call_id.removeprefix("call_")


def tool_input(arguments: str) -> Any:
    """The parsed arguments of a call.

    Of arguments that were cut, the complete members. What is no JSON stands under the key that Anthropic's documentation names
    for it.
    """
    try:
        return from_json(arguments or "{}", allow_partial=True)
    except ValueError:
        return {"INVALID_JSON": arguments}


def signature_of(thinking: str) -> str:
    """The signature of a thinking block: a digest, which is not checked."""
    return base64.b64encode(hashlib.sha256(thinking.encode()).digest()).decode()


def usage(counts: Usage) -> dict[str, Any]:
    """Token counts in Anthropic's form: what was cached is no input."""
    return {
        "input_tokens": counts.prompt - counts.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.cached,
        "output_tokens": counts.completion,
        "output_tokens_details": {"thinking_tokens": counts.reasoning},
    }
