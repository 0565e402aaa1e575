"""Every error under `/v1/messages` has Anthropic's form and types, whatever finds it; elsewhere it has OpenAI's."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from collections.abc import Callable
from contextlib import closing, suppress
from functools import cache
from typing import Any

import httpx
import pytest

from orcinus.config import EngineConfig
from orcinus.core.sampling_params import SamplingParams
from orcinus.serve import body_reader, http_limits
from orcinus.serve.app import make_app
from orcinus.serve.config import ServerConfig
from orcinus.serve.keys import Keys
from orcinus.serve.messages import Ready
from orcinus.serve.replica_set import ReplicaSet
from orcinus.serve.request_processor import RequestProcessor
from orcinus.serve.service import Service
from orcinus.serve.text_threads import TextThreads
from orcinus.text.tokenizer import load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.serve.conftest import Running

HI = [{"role": "user", "content": "Hi"}]
BODY: dict[str, Any] = {"messages": HI, "max_tokens": 2}
MESSAGES, COUNT, CHAT = "/v1/messages", "/v1/messages/count_tokens", "/v1/chat/completions"


@cache
def processor() -> RequestProcessor:
    tokenizer = load_tokenizer(MODEL_DIR)
    assert tokenizer is not None
    return RequestProcessor("m", tokenizer, SamplingParams(), Ready(2048, 2048, 16384, 1024), 0, TextThreads())


def service(*keys: str, loaded: bool = True, **config: Any) -> Service:
    """A server whose engine is never started."""
    found = Service(ReplicaSet(EngineConfig()), ServerConfig(**config), "m", Keys(keys))
    if loaded:
        found.open(processor())
    return found


def send(to: Service, method: str, path: str, **request: Any) -> httpx.Response:
    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(make_app(to), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **request)

    return asyncio.run(scenario())


def error(answer: httpx.Response, kind: str) -> str:
    """The message of an error in Anthropic's form, of this type."""
    body = answer.json()
    assert (set(body), body["type"]) == ({"type", "error", "request_id"}, "error")
    assert set(body["error"]) == {"type", "message"}
    assert body["error"]["type"] == kind
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]
    message: str = body["error"]["message"]
    assert message
    return message


REQUESTS: list[tuple[str, str, dict[str, Any], int, str]] = [
    ("POST", MESSAGES, {"json": {"messages": HI}}, 400, "invalid_request_error"),
    ("POST", MESSAGES, {"json": BODY | {"temperature": 2}}, 400, "invalid_request_error"),
    (
        "POST",
        MESSAGES,
        {"json": BODY | {"messages": [{"role": "user", "content": "word " * 5000}]}},
        400,
        "invalid_request_error",
    ),
    ("POST", MESSAGES, {"json": BODY | {"model": "claude"}}, 404, "not_found_error"),
    ("POST", COUNT, {"json": {"messages": HI, "model": "claude"}}, 404, "not_found_error"),
    ("POST", COUNT, {"json": {}}, 400, "invalid_request_error"),
    ("POST", MESSAGES, {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid_request_error"),
    ("POST", MESSAGES, {"content": b"[]", "headers": {"content-type": "application/json"}}, 400, "invalid_request_error"),
    ("POST", MESSAGES, {"content": b"x=1", "headers": {"content-type": "text/plain"}}, 415, "invalid_request_error"),
    ("POST", MESSAGES, {"json": BODY | {"system": "x" * 9_000_000}}, 413, "request_too_large"),
    ("GET", MESSAGES, {}, 405, "invalid_request_error"),
    ("GET", COUNT, {}, 405, "invalid_request_error"),
    ("POST", "/v1/messages/batches", {"json": {}}, 404, "not_found_error"),
    ("POST", "/v1/messages//count_tokens", {"json": BODY}, 400, "invalid_request_error"),
    ("POST", MESSAGES, {"json": BODY, "headers": {"host": "evil.example"}}, 403, "permission_error"),
    ("POST", MESSAGES, {"json": BODY, "headers": {"origin": "http://evil.example"}}, 403, "permission_error"),
]


@pytest.mark.parametrize(("method", "path", "request_", "status", "kind"), REQUESTS, ids=range(len(REQUESTS)))
def test_wrong_requests(method: str, path: str, request_: dict[str, Any], status: int, kind: str) -> None:
    answer = send(service(), method, path, **request_)
    assert answer.status_code == status, answer.text
    error(answer, kind)
    if status == 405:
        assert answer.headers["allow"] == "POST"


def test_what_claude_code_reads_of_a_prompt_that_is_too_long() -> None:
    messages = [{"role": "user", "content": "Once upon a time " * 1000}]
    answer = send(service(), "POST", MESSAGES, json=BODY | {"messages": messages})
    assert error(answer, "invalid_request_error").startswith("prompt is too long: ")


def not_loaded() -> Service:
    return service(loaded=False)


def draining() -> Service:
    found = service()
    found.drain()
    return found


def full() -> Service:
    found = service(max_queue=1)
    found.admission.enter("", 1, 1)
    return found


@pytest.mark.parametrize(
    ("made", "status", "kind"),
    [(not_loaded, 503, "overloaded_error"), (draining, 503, "overloaded_error"), (full, 429, "rate_limit_error")],
)
def test_a_server_without_room(made: Callable[[], Service], status: int, kind: str) -> None:
    answer = send(made(), "POST", MESSAGES, json=BODY)
    assert answer.status_code == status
    assert int(answer.headers["retry-after"]) >= 1
    error(answer, kind)


def test_a_tool_whose_schema_cannot_be_used_is_named() -> None:
    tools = [{"name": "a", "input_schema": {}}, {"name": "b", "input_schema": {"type": "teapot"}}]
    answer = send(service(), "POST", MESSAGES, json=BODY | {"tools": tools, "tool_choice": {"type": "any"}})
    assert answer.status_code == 400
    told = error(answer, "invalid_request_error")
    assert told == "tools.1.input_schema: the type must be 'object', because arguments have names; it is 'teapot'"


def test_a_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = service()
    monkeypatch.setattr(broken.admission, "check_asking", lambda: 1 / 0)
    answer = send(broken, "POST", MESSAGES, json=BODY)
    assert answer.status_code == 500
    error(answer, "api_error")


KEY, OTHER = "key-one", "key-two"


@pytest.mark.parametrize("path", [MESSAGES, COUNT, CHAT, "/v1/models", "/v1/messages/nope"])
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("x-api-key", "")],
        [("x-api-key", "wrong")],
        [("authorization", f"Basic {KEY}")],
        [("x-api-key", KEY), ("authorization", f"Bearer {OTHER}")],
        [("x-api-key", KEY), ("authorization", "Bearer wrong")],
        [("x-api-key", KEY), ("x-api-key", KEY)],
    ],
    ids=range(7),
)
def test_keys_that_open_nothing(path: str, headers: list[tuple[str, str]]) -> None:
    answer = send(service(KEY, OTHER), "POST", path, headers=headers, json={})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    if path.startswith(MESSAGES):
        error(answer, "authentication_error")
    else:
        assert answer.json()["error"]["type"] == "authentication_error"
        assert set(answer.json()) == {"error"}


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": KEY},
        {"authorization": f"Bearer {KEY}"},
        {"x-api-key": KEY, "authorization": f"Bearer {KEY}"},
        {"x-api-key": KEY, "authorization": "Bearer "},
    ],
    ids=range(4),
)
def test_a_key_under_either_name_opens_every_path(headers: dict[str, str]) -> None:
    guarded = service(KEY, OTHER)
    assert send(guarded, "GET", "/v1/models", headers=headers).status_code == 200
    counted = send(guarded, "POST", f"{COUNT}?beta=true", headers=headers, json={"messages": HI})
    assert counted.status_code == 200
    assert counted.json()["input_tokens"] > 0


def test_the_id_of_a_request_is_the_clients() -> None:
    answer = send(service(), "POST", MESSAGES, json={}, headers={"x-request-id": "mine"})
    assert answer.json()["request_id"] == answer.headers["request-id"] == "mine"


def test_other_paths_keep_openais_form() -> None:
    for path in (CHAT, "/v1/messagesx", "/v1/nope"):
        body = json.loads(send(service(), "POST", path, json={}).content)
        assert set(body["error"]) == {"message", "type", "param", "code"}


# What is refused before a route sees it


def raw_answer(server: Running, *parts: bytes, pause: float = 0.0) -> tuple[int, dict[str, Any]]:
    """Status and body of the answer to bytes that are sent one after another."""
    address = httpx.URL(server.url)
    received = b""
    with closing(socket.create_connection((address.host, address.port or 80), timeout=20)) as connection:
        with suppress(OSError):
            for part in parts:
                connection.sendall(part)
                if select.select([connection], [], [], pause)[0]:
                    break
        with suppress(OSError):
            while piece := connection.recv(65536):
                received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    found: dict[str, Any] = json.loads(body)
    return int(head.split()[1]), found


def request_head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def in_the_form_of(path: str, body: dict[str, Any], kind: str, code: str) -> str:
    """The message of an error in the form that belongs to a path."""
    if path == CHAT:
        assert (set(body), body["error"]["code"]) == ({"error"}, code)
    else:
        assert (set(body), body["type"]) == ({"type", "error", "request_id"}, "error")
        assert (set(body["error"]), body["error"]["type"]) == ({"type", "message"}, kind)
    message: str = body["error"]["message"]
    return message


@pytest.mark.parametrize("path", [MESSAGES, COUNT, f"{MESSAGES}?beta=true", CHAT])
def test_headers_that_are_too_large(server: Running, path: str) -> None:
    status, body = raw_answer(server, request_head(path, "X-Long: " + "y" * 100_000))
    assert status == 431
    assert in_the_form_of(path, body, "invalid_request_error", "headers_too_large") == "path and headers are larger than 64 KiB"


@pytest.mark.parametrize("path", [MESSAGES, COUNT, CHAT])
@pytest.mark.parametrize(
    ("parts", "told"), [(1, "nothing came for 1 s"), (40, "the body comes too slowly")], ids=["stops", "trickles"]
)
def test_a_body_that_does_not_come(server: Running, monkeypatch: pytest.MonkeyPatch, path: str, parts: int, told: str) -> None:
    monkeypatch.setattr(body_reader, "SILENCE_S", 1.0)
    head = request_head(path, "Content-Type: application/json", "Content-Length: 1000")
    status, body = raw_answer(server, head, *[b" "] * parts, pause=0.1)
    assert status == 408
    assert told in in_the_form_of(path, body, "timeout_error", "slow_request")


def test_headers_that_do_not_come(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_limits, "HEADERS_WITHIN_S", 0.3)
    status, body = raw_answer(server, request_head(MESSAGES)[:-4])
    assert status == 408
    assert "the headers took longer" in in_the_form_of(MESSAGES, body, "timeout_error", "slow_request")
