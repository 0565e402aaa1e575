"""Replies: the answers of a call in the form of one dialect."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from orcinus.serve.answers import Answers

to_json = msgspec.json.Encoder().encode  # NaN and infinities become null
DONE = b"data: [DONE]\n\n"


class Reply(Protocol):
    """What a client gets for one call, whole or as a stream."""

    @property
    def id(self) -> str:
        """The id of the response."""
        ...

    @property
    def answers(self) -> Answers:
        """The answers, collected while the reply is read."""
        ...

    async def whole(self) -> dict[str, Any]:
        """The response object, when all answers have ended. Raises `ApiError`."""
        ...

    def frames(self, keep_alive_s: float, interval_s: float) -> AsyncIterator[bytes]:
        """Server-sent events from the first to the last.

        A silent stream gets a sign of life every `keep_alive_s`; frames come no closer than `interval_s`.
        """
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """Facts about the served model that responses repeat."""

    name: str
    fingerprint: str = ""
    created: int = field(default_factory=lambda: int(time.time()))


def event(content: dict[str, Any]) -> bytes:
    """A server-sent event with JSON data."""
    return b"data: " + to_json(content) + b"\n\n"


def named_event(name: str, content: dict[str, Any]) -> bytes:
    """A server-sent event whose name stands in its data, too."""
    return b"event: " + name.encode() + b"\n" + event({"type": name, **content})
