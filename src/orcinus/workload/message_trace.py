"""Requests as lists of OpenAI messages, without times and token counts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orcinus.workload.arrival import Arrival
from orcinus.workload.file_position import FilePosition
from orcinus.workload.token_counts import CountTokens

LIMITS = ("max_completion_tokens", "max_tokens")


def holds_messages(fields: Mapping[str, Any]) -> bool:
    """Whether an object is a request with messages, bare or batched."""
    body = fields.get("body")
    return "messages" in fields or (isinstance(body, dict) and "messages" in body)


def read_messages(place: FilePosition, fields: Any, count_tokens: CountTokens, answer: int | None) -> list[Arrival]:
    """The request of a line, which arrives at 0.

    Its prompt is its messages, without the words of a chat template. If the last message is an assistant's and the line is
    no request body, that message is the answer. Otherwise the answer has `answer` tokens, or the request's own maximum.
    Raises `ConfigError`.
    """
    if not isinstance(fields, dict) or not holds_messages(fields):
        raise place.wrong("it has no messages")
    request = fields if "messages" in fields else fields["body"]
    spoken = [(_role(place, message), _text(place, message)) for message in _listed(place, request["messages"])]
    answered = request is fields and len(spoken) > 1 and spoken[-1][0] == "assistant"
    prompt = sum(count_tokens(text) for _, text in (spoken[:-1] if answered else spoken))
    if not prompt:
        raise place.wrong("its messages hold no text")
    most = _most(place, request)
    tokens = count_tokens(spoken[-1][1]) if answered else answer or most
    if tokens is None:
        raise place.wrong("it says neither its answer nor max_tokens: say how long answers are with trace:file=...:answer=128")
    if not tokens:
        raise place.wrong("its answer is empty")
    return [Arrival(0.0, prompt, tokens if most is None else min(tokens, most), max_tokens=most)]


def _most(place: FilePosition, request: Mapping[str, Any]) -> int | None:
    name = next((name for name in LIMITS if request.get(name) is not None), None)
    return None if name is None else place.tokens(request, name)


def _listed(place: FilePosition, messages: Any) -> Sequence[Mapping[str, Any]]:
    if not isinstance(messages, list) or not messages or not all(isinstance(message, dict) for message in messages):
        raise place.wrong("messages must be a list of objects, and not an empty one")
    return messages


def _role(place: FilePosition, message: Mapping[str, Any]) -> str:
    role = message.get("role")
    if not isinstance(role, str):
        raise place.wrong("a message needs a role")
    return role


def _text(place: FilePosition, message: Mapping[str, Any]) -> str:
    """A message's content, and its tool calls, as text."""
    content = message.get("content")
    parts = [content] if isinstance(content, str) else [] if content is None else _parts(place, content)
    calls = message.get("tool_calls")
    return place.text("\n".join([*parts, *([json.dumps(calls)] if calls else [])]))


def _parts(place: FilePosition, content: Any) -> list[str]:
    """The texts of a content that is a list of parts."""
    found = [part.get("text") if isinstance(part, dict) else part for part in content] if isinstance(content, list) else [None]
    texts = [text for text in found if isinstance(text, str)]
    if len(texts) < len(found):
        raise place.wrong("the content of a message must be text, or parts that all are")
    return texts
