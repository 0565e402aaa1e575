"""Small servers that are wrong on purpose, each in one way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
Respond = Callable[[str, str, Json], tuple[int, Any]]  # method, path, body -> status, an object or a list of frames

CARD = {"id": "m", "object": "model", "created": 1, "owned_by": "orcinus", "max_model_len": 64}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
UNKNOWN = {"message": "no such key", "type": "authentication_error", "param": None, "code": "invalid_api_key"}
WORDS = ["Hello", " you"]


def whole(path: str) -> Json:
    """A right answer of two tokens."""
    text = {"message": {"role": "assistant", "content": "".join(WORDS)}} if "chat" in path else {"text": "".join(WORDS)}
    choice = {"index": 0, **text, "logprobs": None, "finish_reason": "length"}
    return {"id": "x-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}


def frames(path: str, body: Json) -> list[Json | str]:
    """The same as a stream."""
    head = {"id": "x-1", "object": "chat.completion.chunk" if "chat" in path else "text_completion", "created": 1, "model": "m"}
    found: list[Json | str] = []
    for index, word in enumerate(WORDS):
        role = {"role": "assistant"} if index == 0 else {}
        text = {"delta": role | {"content": word}} if "chat" in path else {"text": word}
        reason = "length" if index == len(WORDS) - 1 else None
        found.append({**head, "choices": [{"index": 0, **text, "logprobs": None, "finish_reason": reason}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        found.append({**head, "choices": [], "usage": USAGE})
    return [*found, "[DONE]"]


def yes_to_everything(method: str, path: str, body: Json) -> tuple[int, Any]:
    """A server that takes whatever it is asked."""
    if path.startswith("/v1/models"):
        return 200, {"object": "list", "data": [CARD]}
    return 200, frames(path, body) if body.get("stream") else whole(path)


def _event(frame: Json | str) -> str:
    """A frame as an event, named if it has a type."""
    if isinstance(frame, str):
        return f"data: {frame}\n\n"
    name = f"event: {frame['type']}\n" if "type" in frame else ""
    return f"{name}data: {json.dumps(frame)}\n\n"


@contextmanager
def answering(respond: Respond, key: str | None = None) -> Iterator[str]:
    """A server with these answers, behind a key if there is one; its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            try:
                body = json.loads(raw or b"{}")
            except ValueError:
                body = {}
            refused = key is not None and self.path != "/health" and not self.has_key()
            status, found = (
                (401, {"error": UNKNOWN})
                if refused
                else respond(self.command, self.path, body if isinstance(body, dict) else {})
            )
            streamed = isinstance(found, list)
            lines = [_event(one) for one in found] if streamed else []
            content = ("".join(lines) if streamed else json.dumps(found)).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/event-stream" if streamed else "application/json")
            self.send_header("Content-Length", str(len(content)))
            if refused:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else content)

        def has_key(self) -> bool:
            given = self.headers.get_all("authorization") or []
            scheme, _, rest = given[0].partition(" ") if len(given) == 1 else ("", "", "")
            return scheme.lower() == "bearer" and rest == key

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
