"""Plain sockets, for requests that a client library would not send."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import httpx

from orcinus.conformance.target import Json, ServerUnderTest
from orcinus.conformance.verdict import Failed, expect


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A response read from a socket."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float  # until the answer began


@contextmanager
def connected(target: ServerUnderTest, timeout: float = 15.0) -> Iterator[socket.socket]:
    """A connection to the server, closed after the block."""
    url = httpx.URL(target.url)
    plain = socket.create_connection((url.host, url.port or (443 if url.scheme == "https" else 80)), timeout)
    with ssl.create_default_context().wrap_socket(plain, server_hostname=url.host) if url.scheme == "https" else plain as one:
        yield one


def request(target: ServerUnderTest, line: str, *headers: str, body: bytes = b"", key: bool = True) -> bytes:
    """A request as bytes, with default Host and key headers."""
    lines = [line, *headers]
    if not any(one.lower().startswith("host:") for one in headers):
        lines.append(f"Host: {httpx.URL(target.url).netloc.decode()}")
    if key:
        lines += [f"{name}: {value}" for name, value in target.auth.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def posting(target: ServerUnderTest, path: str, body: Json) -> bytes:
    """The bytes of a POST with a JSON body."""
    content = json.dumps({"model": target.model} | body).encode()
    return request(
        target, f"POST {path} HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(content)}", body=content
    )


def exchange(target: ServerUnderTest, sent: bytes, timeout: float = 15.0, *, then_closed: bool = False) -> RawResponse:
    """Send bytes and read one answer.

    Raises `Failed` if no answer comes, or if the server should close the connection and does not.
    """
    began = time.monotonic()
    with connected(target, timeout) as one:
        with suppress(OSError):  # the server may answer before it has read everything, and close
            one.sendall(sent)
        try:
            response = http.client.HTTPResponse(one)
            response.begin()
            seconds = time.monotonic() - began
            headers = {name.lower(): value for name, value in response.getheaders()}
            answer = RawResponse(response.status, headers, response.read(), seconds)
        except TimeoutError:
            raise Failed(f"no answer within {timeout:g} s") from None
        except (http.client.HTTPException, OSError) as error:
            raise Failed(f"no HTTP answer, but {type(error).__name__}") from None
        expect(not then_closed or _is_closed(one), "the connection stays open")
        return answer


def receive(one: socket.socket) -> bytes:
    """One answer, a JSON object, from a connection that stays open.

    Raises `Failed` if the connection ends first.
    """
    found = b""
    while b"\r\n\r\n" not in found or not found.endswith(b"}"):
        piece = one.recv(65536)
        expect(piece, "the connection ended")
        found += piece
    return found


def _is_closed(one: socket.socket) -> bool:
    one.settimeout(1.0)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True
