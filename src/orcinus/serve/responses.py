"""Responses that notice when their client hangs up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from orcinus.serve.dialects.reply import Reply, to_json
from orcinus.serve.errors import CLIENT_CLOSED, ApiError, response

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class JSON(Response):
    """An object, encoded by msgspec."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return to_json(content)


def _watch(receive: Receive, hang_up: Callable[[], None]) -> asyncio.Task[None]:
    """Call `hang_up` when the client goes, unless cancelled before."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    watch = asyncio.create_task(gone())
    watch.add_done_callback(lambda task: None if task.cancelled() else hang_up())
    return watch


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


class WholeAnswer(Response):
    """One JSON object, sent when all answers have ended.

    A client that hangs up before ends them.
    """

    def __init__(self, reply: Reply, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.reply, self.extra = reply, dict(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self.reply.answers.call
        watch = _watch(receive, call.hang_up)
        try:
            answer: Response = JSON(await self.reply.whole(), headers=self.extra)
        except ApiError as error:
            error.headers |= self.extra
            answer = response(error, scope)
        finally:
            watch.cancel()
            call.close()
        scope["orcinus"]["answers"] = self.reply.answers
        await answer(scope, receive, send)


class Events(Response):
    """Server-sent events, sent as they come.

    `closing` always runs at the end; a client that hangs up calls `hang_up`.
    """

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        headers: Mapping[str, str],
        hang_up: Callable[[], None],
        closing: Callable[[Scope], None],
    ) -> None:
        super().__init__(None, 200, {**headers, **STREAM_HEADERS}, "text/event-stream")
        del self.headers["content-length"]
        self.frames, self.hang_up, self.closing = frames, hang_up, closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watch = _watch(receive, self.hang_up)
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for frame in _nothing() if scope["orcinus"]["head"] else self.frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            if watch.done():
                scope["orcinus"]["status"] = CLIENT_CLOSED
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watch.cancel()
            self.closing(scope)


def answer_events(reply: Reply, headers: Mapping[str, str], keep_alive_s: float, interval_s: float) -> Events:
    """The event stream of a reply."""
    call = reply.answers.call

    def closing(scope: Scope) -> None:
        call.close()
        scope["orcinus"]["answers"] = reply.answers

    return Events(reply.frames(keep_alive_s, interval_s), headers, call.hang_up, closing)
