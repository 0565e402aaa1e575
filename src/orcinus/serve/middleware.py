"""The outermost middleware: path, API key, browser checks, request id, log."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orcinus.serve.browsers import Browsers, Headers
from orcinus.serve.ended_request import EndedRequest, RequestListener
from orcinus.serve.errors import ApiError, is_messages, on_any_error, response
from orcinus.serve.keys import Keys
from orcinus.serve.ledgers import Ledgers
from orcinus.serve.metrics import Metrics

OPEN = re.compile(r"/health|/|/page/[^/]*")  # for everyone, without a key: the page asks for one
NOT_CANONICAL = re.compile(rb"//|(?:/|%2f)(?:\.|%2e){1,2}(?:/|%2f|$)", re.IGNORECASE)
HOST = re.compile(rb"(?:\[[0-9a-f:.]+\]|[\w.~!$&'()*+,;=%-]*)(?::\d*)?", re.IGNORECASE | re.ASCII)
TRACE_CONTEXT = (b"traceparent", b"tracestate")
SHOWN = re.compile(r"^[\x21-\x7e]{1,256}$")


class Middleware:
    """The outermost layer of the application.

    `scope["orcinus"]` carries data between it and the routes: `holder`: whose key it is; `head`: that only headers are wanted;
    `answers`, `model`, `error` and `status`: what the log shows, where it is not the response that says so; `ignored`: fields
    of the body that mean nothing here, for a header. `listeners` hear of every request that ended. While the server is
    `leaving`, each response is the last one on its connection.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: Keys,
        browsers: Browsers,
        metrics: Metrics,
        ledgers: Ledgers,
        listeners: Sequence[RequestListener],
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        self.app, self.keys, self.browsers, self.metrics = app, keys, browsers, metrics
        self.ledgers, self.listeners, self.leaving = ledgers, listeners, leaving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.monotonic()
        facts: dict[str, Any] = {"answers": None, "error": None, "model": None, "holder": None, "status": None}
        facts |= {"head": False, "ignored": []}
        scope["orcinus"] = facts
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        request_id = _request_id(headers)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *self.browsers.cors(headers)]
                message["headers"] += _id_headers(message["headers"], request_id, scope["path"])
                if facts["ignored"]:
                    message["headers"] += [(b"x-ignored-fields", _listed(facts["ignored"]))]
                if self.leaving():
                    message["headers"] += [(b"connection", b"close")]
            await send(message)

        if scope["method"] == "HEAD":  # GET without a body: uvicorn leaves it out
            scope = {**scope, "method": "GET"}
            facts["head"] = True
        try:
            facts["request_id"] = request_id
            if (early := self._early(scope, headers)) is not None:
                await early(scope, receive, send_with_id)
                return
            try:
                await self.app(scope, receive, send_with_id)
            except Exception as error:  # already answered and logged, unless no handler caught it
                if not status:
                    await (await on_any_error(Request(scope), error))(scope, receive, send_with_id)
        finally:
            self._note(scope, facts["status"] or status, began)

    def _early(self, scope: Scope, headers: Headers) -> Response | None:
        """The response to a request that no route may see, or None.

        It also finds the holder of the request's key.
        """
        try:
            _check_host(scope)
            if (told := self.browsers.preflight(scope["method"], headers)) is not None:
                return Response(status_code=204, headers=told)
            if not OPEN.fullmatch(scope["path"]):
                if not self.keys:
                    self.browsers.check(headers)
                authorization, x_api_key = (
                    [value for name, value in headers if name == wanted] for wanted in (b"authorization", b"x-api-key")
                )
                scope["orcinus"]["holder"] = self.keys.holder(authorization, x_api_key)
            if NOT_CANONICAL.search(scope["raw_path"] or b""):
                raise ApiError(400, "write the path without //, . or .. in it", code="invalid_path")
        except ApiError as error:
            return response(error, scope)
        return None

    def _note(self, scope: Scope, status: int, began: float) -> None:
        route, ended = getattr(scope.get("route"), "path", "other"), time.monotonic()
        self.metrics.http.labels(route, str(status)).inc()
        if not self.listeners:
            return
        facts, client = scope["orcinus"], scope.get("client")
        request = EndedRequest(
            request_id=facts["request_id"],
            method="HEAD" if facts["head"] else scope["method"],
            path=scope["path"],
            route=route,
            status=status,
            began=began,
            ended=ended,
            client=client[0] if client else None,
            key=facts["holder"].name if facts["holder"] else None,
            error=facts["error"],
            model=facts["model"],
            answers=(answers := facts["answers"]),
            ledgers=self.ledgers.take(answers, ended) if answers is not None else (),
            trace_headers={name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in TRACE_CONTEXT},
        )
        for listener in self.listeners:
            listener(request)


def _check_host(scope: Scope) -> None:
    """Raise `ApiError` 400 unless there is one valid Host header.

    HTTP/1.0 may leave it out (RFC 9112).
    """
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1 and (hosts or scope["http_version"] == "1.1"):
        raise ApiError(400, f"send one Host header, not {len(hosts) or 'none'}", code="invalid_host")
    if hosts and not HOST.fullmatch(hosts[0]):
        raise ApiError(400, "the Host header must be a host with an optional port", code="invalid_host")


def _id_headers(headers: Headers, request_id: str, path: str) -> list[tuple[bytes, bytes]]:
    """The request id, if no route has told one, and under Anthropic's name where its clients read it."""
    told = next((value for name, value in headers if name.lower() == b"x-request-id"), None)
    found = [(b"x-request-id", request_id.encode())] if told is None else []
    return [*found, (b"request-id", told or request_id.encode())] if is_messages(path) else found


def _listed(names: list[str]) -> bytes:
    """Field names, which clients choose, as a safe header value."""
    return "".join(char if "\x20" <= char <= "\x7e" else "?" for char in ", ".join(names)[:1024]).encode()


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    """The client's request id if it is printable, else a new one."""
    sent = next((value.decode("latin-1") for name, value in headers if name == b"x-request-id"), "")
    return sent if SHOWN.fullmatch(sent) else f"req-{uuid.uuid4().hex[:24]}"
