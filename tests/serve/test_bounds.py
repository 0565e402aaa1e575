"""What a client can make a server hold or do, with a key or without: raw sockets against a server process of its own."""

from __future__ import annotations

import itertools
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from orcinus.errors import RequestError
from orcinus.serve import http_limits
from orcinus.serve.body import parse
from orcinus.serve.body_reader import MOST_BYTES, PACE, SILENCE_S, WITHIN_S, Body, BodyReader
from orcinus.serve.http_limits import MOST_HEADER_BYTES, BoundedProtocol
from orcinus.serve.schema import CompletionBody
from orcinus.text.tokenizer import Tokenizer, TooManyTokens, load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.product import in_turn, part
from tests.serve.conftest import Running, serving
from tests.serve.in_process import serving_in_process
from tests.waiting import wait_until, within

KEY = {"Authorization": "Bearer secret"}
CHAT = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
MIB = 2**20
ONE_READ = MIB // 4  # of uvloop


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving("--simulate", "llama-7b", "--speed", "50", "--api-key", "secret") as running:
        yield running


@pytest.fixture(scope="module")
def impatient() -> Iterator[Running]:
    """A server that waits for one second where others wait for ten."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HEADERS_WITHIN_S", "LINGER_S"):
            patch.setattr(http_limits, name, getattr(http_limits, name) / 10)
        with serving_in_process("--simulate", "llama-7b", "--speed", "50", "--api-key", "secret") as running:
            yield running


def memory(server: Running) -> int:
    """Resident bytes of the HTTP process."""
    return int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]) * resource.getpagesize()


def connect(server: Running) -> socket.socket:
    address = httpx.URL(server.url)
    connection = socket.create_connection((address.host, address.port or 80), timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def head(path: str, *headers: str, method: str = "POST", key: bool = True) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, *(["Authorization: Bearer secret"] if key else [])]).encode() + b"\r\n\r\n"


def flood(connection: socket.socket, part: bytes, most: int) -> int:
    """Send the same again and again until the server closes the connection or `most` bytes are sent; how many were."""
    sent = 0
    with suppress(OSError):
        while sent < most:
            connection.sendall(part)
            sent += len(part)
    return sent


def answer(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    found = b""
    with suppress(ConnectionError):
        while part := connection.recv(65536):
            found += part
    return found


def chats(server: Running) -> bool:
    return server.http.post("/v1/chat/completions", json=CHAT, headers=KEY).status_code == 200


ENDLESS = {
    "many trailers": (b"2\r\n{}\r\n0\r\n", b"x-trailer: y\r\n" * 1000),
    "one trailer": (b"2\r\n{}\r\n0\r\nx: ", b"y" * 20_000),
    "a trailer's name": (b"2\r\n{}\r\n0\r\n", b"y" * 20_000),
    "a chunk extension": (b"2;x=", b"y" * 20_000),
    "many chunk extensions": (b"2", b";x=y" * 5000),
    "zeros before a chunk's size": (b"", b"0" * 20_000),
}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/health", "/nowhere", "/drain"])
@pytest.mark.parametrize("key", [True, False])
@pytest.mark.parametrize("what", ENDLESS)
def test_what_is_no_body_has_an_end(server: Running, path: str, key: bool, what: str) -> None:
    if path == "/drain" and key:
        pytest.skip("this would drain the server")
    before = memory(server)
    with closing(connect(server)) as connection:
        begin, part = ENDLESS[what]
        connection.sendall(head(path, "Transfer-Encoding: chunked", key=key) + begin)
        sent = flood(connection, part, 64 * MIB)
        assert sent < 16 * MIB, "the connection was closed"
    assert memory(server) - before < 16 * MIB
    assert chats(server)


def test_trailers_are_no_headers(server: Running) -> None:
    with closing(connect(server)) as connection:
        body = json.dumps(CHAT).encode()
        connection.sendall(head("/v1/chat/completions", "Transfer-Encoding: chunked", "Connection: close"))
        connection.sendall(
            b"%x;ext=1\r\n%b\r\n0\r\nAuthorization: Bearer other\r\nX-Request-ID: late\r\n\r\n" % (len(body), body)
        )
        found = answer(connection)
        assert found.startswith(b"HTTP/1.1 200")
        assert b"late" not in found


def test_heads_have_an_end_in_bytes(impatient: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many bytes a client gets rid of is a matter of both systems' buffers: those that the server reads count."""
    read, receive = [0], BoundedProtocol.data_received

    def counted(self: BoundedProtocol, data: bytes) -> None:
        read[0] += len(data)
        receive(self, data)

    monkeypatch.setattr(BoundedProtocol, "data_received", counted)
    for begin, piece in (
        (b"GET /health HTTP/1.1\r\n", b"x: " + b"y" * 1000 + b"\r\n"),
        (b"GET /", b"y" * 1000),
        (b"", b"\r\n" * 500),
    ):
        read[0] = 0
        with closing(connect(impatient)) as connection:
            connection.sendall(begin)
            assert flood(connection, piece, 64 * MIB) < 64 * MIB, "the connection was closed"
        assert MOST_HEADER_BYTES < read[0] <= MOST_HEADER_BYTES + ONE_READ


def test_heads_have_an_end_in_time(impatient: Running) -> None:
    with within(30), closing(connect(impatient)) as connection:  # all of it would take longer
        try:
            for byte in b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 120:
                connection.sendall(bytes([byte]))
                time.sleep(0.05)
        except OSError:
            return
        assert answer(connection).startswith(b"HTTP/1.1 408")


def test_pipelined_requests_wait_in_bounded_number(server: Running) -> None:
    """Behind an answer that never ends, and behind unread answers."""
    before = memory(server)
    slow = head("/v1/scheduler/iterations", method="GET")
    for first in (slow, head("/health", method="GET"), head("/v1/models", method="GET", key=False)):
        with closing(connect(server)) as connection:
            connection.settimeout(3)
            connection.sendall(first)
            time.sleep(0.1)
            flood(connection, head("/v1/models", method="GET") * 500, 32 * MIB)
            assert memory(server) - before < 32 * MIB
    assert chats(server)


def test_a_few_pipelined_requests_are_answered_in_order(server: Running) -> None:
    with closing(connect(server)) as connection:
        last = head("/v1/models", "Connection: close", method="GET")
        connection.sendall(head("/health", method="GET") * 9 + last)
        assert answer(connection).count(b"HTTP/1.1 200") == 10


LENGTHS = part(b"Transfer-Encoding: chunked", full=[b"Content-Length: 8000000"])


@pytest.mark.parametrize("length", LENGTHS)
def test_a_body_without_a_key_is_not_read(server: Running, length: bytes) -> None:
    """The answer comes at once, and what is sent all the same is not kept."""
    before = memory(server)
    connections = [connect(server) for _ in range(20)]
    part = b"4000\r\n" + b"x" * 0x4000 + b"\r\n" if b"chunked" in length else b"x" * 0x4000
    for connection in connections:
        connection.sendall(head("/v1/chat/completions", length.decode(), key=False) + part)
    for connection in connections:
        assert connection.recv(12) == b"HTTP/1.1 401"
        flood(connection, part, 4 * MIB)
    assert memory(server) - before < 24 * MIB
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("length", LENGTHS)
def test_its_connection_ends_soon_after_the_answer(impatient: Running, length: bytes) -> None:
    """A little of the body now and then does not keep it open."""
    chunked = b"chunked" in length
    with closing(connect(impatient)) as connection:
        connection.sendall(head("/v1/chat/completions", length.decode(), key=False) + (b"1\r\nx\r\n" if chunked else b"x"))
        assert connection.recv(12) == b"HTTP/1.1 401"
        wait_until(lambda: closed(connection, b"1\r\nx\r\n" if chunked else b"x"), 60, 0.2)


def closed(connection: socket.socket, little: bytes) -> bool:
    """Whether the other side takes no more."""
    try:
        connection.sendall(little)
    except OSError:
        return True
    return False


@pytest.mark.full
def test_a_trickled_body_is_408(server: Running) -> None:
    found = list[bytes]()

    def trickle(step: int, wait: float) -> None:
        with closing(connect(server)) as connection:
            connection.sendall(head("/v1/chat/completions", "Content-Length: 8000000"))
            with suppress(OSError):
                for _ in range(int(40 / wait)):
                    connection.sendall(b" " * step)
                    time.sleep(wait)
                    connection.setblocking(False)
                    with suppress(BlockingIOError):
                        if part := connection.recv(4096):
                            found.append(part)
                            return
                    connection.setblocking(True)

    threads = [threading.Thread(target=trickle, args=args) for args in ((1, 0.2), (1, 3.0), (1000, 0.2)) for _ in range(5)]
    with within(35):
        for thread in threads:
            thread.start()
        assert chats(server)
        for thread in threads:
            thread.join()
    assert [part[:12] for part in found] == [b"HTTP/1.1 408"] * 15
    assert all(b"the body comes too slowly: send 16 KiB a second or more" in part for part in found)


def test_patience_with_a_body_grows_with_what_came_and_has_an_end() -> None:
    body = Body(BodyReader(), bytearray(), began=100.0)
    assert body.patience(100.0) == SILENCE_S
    assert body.patience(109.0) == 1.0
    assert body.patience(111.0) == 0.0
    body.add(b"x" * 5 * PACE)
    assert body.patience(111.0) == 4.0
    body.add(b"x" * 200 * PACE)
    assert body.patience(100.0 + WITHIN_S - 1) == 1.0
    assert body.patience(100.0 + WITHIN_S) == 0.0


def test_large_bodies_share_a_bounded_memory_and_small_ones_find_room(server: Running) -> None:
    before, big = memory(server), 7 * MIB
    connections = [connect(server) for _ in range(40)]
    statuses = list[bytes]()

    def send(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(head("/v1/chat/completions", f"Content-Length: {MOST_BYTES}"))
            flood(connection, b" " * MIB, big)
            connection.settimeout(1)
            statuses.append(connection.recv(12))

    threads = [threading.Thread(target=send, args=(connection,)) for connection in connections]
    for thread in threads:
        thread.start()
    small = [chats(server) for _ in range(5)]
    for thread in threads:
        thread.join()
    small += [chats(server) for _ in range(5)]
    assert memory(server) - before < 160 * MIB
    assert small == [True] * 10
    assert b"HTTP/1.1 429" in statuses
    for connection in connections:
        connection.close()
    assert chats(server)


def test_idle_connections_make_room_for_new_ones(server: Running) -> None:
    few, usual = 160, resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (few, usual[1]))
    try:
        connections = [connect(server) for _ in range(200)]
        for connection in connections:
            with suppress(OSError):
                connection.sendall(b"GET /health HTT")
        for _ in range(5):
            with httpx.Client(base_url=server.url, timeout=20) as fresh:
                assert fresh.post("/v1/chat/completions", json=CHAT, headers=KEY).status_code == 200
        for connection in connections:
            connection.close()
    finally:
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, usual)


def refused(server: Running, path: str, body: dict[str, object]) -> dict[str, object]:
    """The error of a request, while chats go on."""
    waits, done = list[float](), threading.Event()

    def chat() -> None:
        while not done.is_set():
            began = time.monotonic()
            assert chats(server)
            waits.append(time.monotonic() - began)

    others = threading.Thread(target=chat)
    others.start()
    try:
        found = httpx.post(server.url + path, json=body, headers=KEY, timeout=60)
    finally:
        done.set()
        others.join()
    assert found.status_code == 400, found.text[:500]
    error: dict[str, object] = found.json()["error"]
    return error


LONG = [{"role": "user", "content": "word and " * 211}] * 4096  # 1,900 characters each


@pytest.mark.parametrize(
    ("path", "body"),
    part(
        ("/v1/chat/completions", {"messages": LONG}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "<|im_end|>" * 780_000}]}),
        ("/v1/completions", {"prompt": "word and " * 900_000}),
        ("/v1/completions", {"prompt": [[5] * 15_000] * 64}),
        ("/tokenize", {"prompt": "word and " * 900_000}),
        ("/detokenize", {"tokens": [5] * 900_000}),
        full=[
            (
                "/v1/chat/completions",
                {"messages": [{"role": "user", "content": [{"type": "text", "text": "ab " * 40}] * 50_000}]},
            ),
            ("/v1/completions", {"prompt": ["word and " * 14_000] * 64}),
            ("/v1/completions", {"prompt": [5] * 900_000}),
            ("/v1/completions", {"prompt": "word and " * 900_000, "truncate_prompt_tokens": 10}),
            ("/tokenize", {"messages": LONG}),
        ],
    ),
    ids=lambda value: value if isinstance(value, str) else ",".join(value),
)
def test_what_can_never_fit_is_refused_before_it_is_worked_on(server: Running, path: str, body: dict[str, object]) -> None:
    error = refused(server, path, body)
    assert error["code"] == "context_length_exceeded"
    assert "more than" in str(error["message"])


MANY = 1_500_000
COMPLEX: dict[str, Callable[[], dict[str, Any]]] = {
    "lists in a prompt": lambda: {"prompt": [[]] * MANY},
    "lists of one id": lambda: {"prompt": [[5]] * MANY},
    "ids": lambda: {"prompt": [5] * 2 * MANY},
    "allowed ids": lambda: {"prompt": "x", "allowed_token_ids": [5] * 2 * MANY},
    "fields": lambda: {"prompt": "x", **{str(number): 1 for number in range(200_000)}},
    "biases": lambda: {"prompt": "x", "logit_bias": {str(number): 1 for number in range(600_000)}},
    "an unknown field": lambda: {"prompt": "x", "something": [{}] * MANY},
    "parts": lambda: {"prompt": "x", "messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 200_000}]},
    "tool calls": lambda: {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}] * 200_000}]},
    "tools": lambda: {"messages": [{"role": "user", "content": "x"}], "tools": [{"function": {"parameters": [{}] * MANY}}]},
}


PATHS = ["/v1/completions", "/v1/chat/completions", "/tokenize"]
ALIKE = ["lists of one id", "allowed ids", "biases", "parts"]  # other values of kinds that others have


@pytest.mark.parametrize(
    ("what", "path"),
    [
        *in_turn([what for what in COMPLEX if what not in ALIKE], PATHS),
        *part(full=itertools.product(ALIKE, PATHS)),
    ],
)
def test_bodies_of_very_many_values_are_refused_before_they_are_made(server: Running, path: str, what: str) -> None:
    raw = json.dumps(COMPLEX[what](), separators=(",", ":")).encode()
    assert len(raw) < MOST_BYTES
    found = server.http.post(path, content=raw, headers=KEY | {"Content-Type": "application/json"})
    assert (found.status_code, found.json()["error"]["code"]) == (400, "invalid_json")
    assert "the body has more than" in found.json()["error"]["message"]


@pytest.mark.parametrize("text", ["[{,", '\\"[', "\\", '"\\\\",[', "\\\\[{"])
def test_brackets_in_strings_are_text(text: str) -> None:
    body = parse(json.dumps({"prompt": text * 400_000}).encode(), CompletionBody)
    assert body.prompt == text * 400_000


def test_as_many_ids_as_a_vocabulary_are_enough(server: Running) -> None:
    sent = {"prompt": "x", "allowed_token_ids": [5] * 100_000, "max_tokens": 1}
    found = server.http.post("/v1/completions", json=sent, headers=KEY)
    assert (found.status_code, found.json()["error"]["param"]) == (400, "allowed_token_ids")


def test_texts_longer_than_the_context_are_counted(server: Running) -> None:
    found = server.http.post("/tokenize", json={"prompt": "word and " * 5000}, headers=KEY).json()
    assert found["count"] > found["max_model_len"] > 0


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    found = load_tokenizer(MODEL_DIR)
    assert found is not None
    return found


class Counting:
    """A tokenizer that counts the characters which it is given."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner: Any = inner._tokenizer
        self.characters = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, text: str, **options: Any) -> Any:
        self.characters += len(text)
        return self.inner(text, **options)


@pytest.mark.parametrize(
    "text", ["word and " * 400_000, "z" * 4_000_000, " " * 4_000_000, "🐋" * 1_000_000, "<|im_end|>" * 400_000]
)
def test_far_too_long_texts_cost_what_twice_the_context_costs(tokenizer: Tokenizer, text: str) -> None:
    counting = Counting(tokenizer)
    bounded: Any = Tokenizer(counting, tokenizer.eos_ids)
    most = 2 * 2048 * tokenizer.longest_token + 3 * 16 * 1024
    for chat in (False, True):
        counting.characters = 0
        with pytest.raises(TooManyTokens, match="characters are more than 4096 tokens"):
            bounded.encode_chat([{"role": "user", "content": text}], most=2048) if chat else bounded.encode(text, most=2048)
        assert counting.characters <= most


@pytest.mark.parametrize("text", ["word and " * 900, "z" * 3000, " " * 20_000, "🐋" * 400, "<|im_end|>" * 300, "é中" * 500])
def test_texts_that_fit_are_what_they_are(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text, most=100_000) == tokenizer.encode(text)
    ids = tokenizer.encode(text)
    assert tokenizer.encode(text, most=len(ids)) == ids
    messages = [{"role": "user", "content": text}]
    ids = tokenizer.encode_chat(messages)
    assert tokenizer.encode_chat(messages, most=len(ids)) == ids
    with suppress(RequestError):
        assert len(tokenizer.encode(text, most=10)) > 10
