"""A proxy in front of a server that asks for a call where the client leaves it to the model.

Some clients have no `tool_choice`, and the bundled model calls a tool only if it must. For them the proxy sets the field, as
long as the conversation has no result of a call. It changes nothing else.
"""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

REQUIRED: dict[str, Any] = {
    "/v1/chat/completions": "required",
    "/v1/responses": "required",
    "/v1/messages": {"type": "any"},
}
HOP = {"connection", "transfer-encoding", "content-length", "host", "keep-alive"}


def has_result(turn: dict[str, Any]) -> bool:
    """Whether a message or an item carries the result of a call."""
    blocks = turn.get("content")
    return (
        turn.get("role") == "tool"
        or str(turn.get("type", "")).endswith("_call_output")
        or (isinstance(blocks, list) and any(block.get("type") == "tool_result" for block in blocks))
    )


def forced(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The body with a call required, if it has tools and no results yet."""
    turns = body.get("messages", body.get("input"))
    answered = isinstance(turns, list) and any(map(has_result, turns))
    if not body.get("tools") or answered or path not in REQUIRED:
        return body
    return body | {"tool_choice": REQUIRED[path]}


class ForcedCalls(BaseHTTPRequestHandler):
    """Passes requests on to `server.target`, and answers back as they come."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Pass a request on, with `tool_choice` where it belongs."""
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = urlsplit(self.path).path
        if path in REQUIRED and raw:
            raw = json.dumps(forced(path, json.loads(raw))).encode()
        self.relay("POST", raw)

    def do_GET(self) -> None:
        """Pass a request on."""
        self.relay("GET", b"")

    def do_HEAD(self) -> None:
        """Pass a request on."""
        self.relay("HEAD", b"")

    def relay(self, method: str, body: bytes) -> None:
        """Ask the server, and pass on what it says, piece by piece, until it closes."""
        upstream = http.client.HTTPConnection(self.server.target, timeout=300)  # type: ignore[attr-defined]
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        upstream.request(method, self.path, body, headers)
        response = upstream.getresponse()
        self.send_response_only(response.status)
        for name, value in response.getheaders():
            if name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        while piece := response.read1(65536):
            self.wfile.write(piece)
            self.wfile.flush()
        self.close_connection = True
        upstream.close()

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing."""


@contextmanager
def forcing(url: str) -> Iterator[str]:
    """The address of a proxy for the server at `url`."""
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), ForcedCalls)
    proxy.target = urlsplit(url).netloc  # type: ignore[attr-defined]
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
