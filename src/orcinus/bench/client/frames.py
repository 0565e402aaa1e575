"""Frames of a stream: OpenAI's format and its dialects.

Servers differ. vLLM and Orcinus send `token_ids` on request. Token counts come in every frame, or in a last one without
choices. Chats begin with a frame that has a role and no token. Reasoning is in `reasoning_content` or `reasoning`.
"""

from __future__ import annotations

from typing import Any

import msgspec

DONE = b"[DONE]"


class TokenUsage(msgspec.Struct, gc=False):
    """Token counts so far."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: Any = None

    @property
    def cached_tokens(self) -> int | None:
        """Prompt tokens found in the prefix cache.

        None if the server does not say.
        """
        found = self.prompt_tokens_details
        count = found.get("cached_tokens") if isinstance(found, dict) else None
        return count if isinstance(count, int) else None


class Delta(msgspec.Struct, gc=False):
    """The delta of a chat's frame."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[msgspec.Raw] | None = None


class StreamChoice(msgspec.Struct, gc=False):
    """A frame's part of the answer."""

    text: str | None = None
    delta: Delta | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None

    def says(self) -> str:
        """The new text (content, reasoning or completion); empty without any."""
        delta = self.delta
        if delta is None:
            return self.text or ""
        said = (delta.reasoning_content or delta.reasoning or "") + (delta.content or "") + (delta.refusal or "")
        return said + "".join(bytes(call).decode() for call in delta.tool_calls or ())


class Frame(msgspec.Struct, gc=False):
    """One event of a stream."""

    choices: list[StreamChoice] | None = None
    usage: TokenUsage | None = None
    error: Any = None
    object: str | None = None
    message: Any = None

    def failure(self) -> str | None:
        """The error that a frame reports; empty if it reports none."""
        if self.error is not None:
            return message_of(self.error)
        return message_of(self.message) if self.object == "error" else None


read_frame = msgspec.json.Decoder(Frame).decode


class _Refusal(msgspec.Struct):
    error: Any = None
    message: Any = None
    detail: Any = None


def refusal_of(status: int, body: bytes) -> str:
    """One short line about an error answer."""
    try:
        found = msgspec.json.decode(body, type=_Refusal)
        text = message_of(found.error or found.message or found.detail or "")
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode(errors="replace")
    return f"status {status}: {shortened(text)}" if text.strip() else f"status {status}"


def message_of(error: Any) -> str:
    """The message of an error in any of the usual formats."""
    if isinstance(error, dict):
        error = error.get("message") or error
    return shortened(error if isinstance(error, str) else msgspec.json.encode(error).decode())


def shortened(text: str, most: int = 200) -> str:
    """A text as one line of limited length."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
