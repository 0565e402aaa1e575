"""Checks of API keys, for servers that require one."""

from __future__ import annotations

import httpx

from orcinus.conformance.registry import check
from orcinus.conformance.shapes import error_in, expect_error
from orcinus.conformance.target import CHAT, HI, TEXT, ServerUnderTest
from orcinus.conformance.verdict import Skip, expect, expect_equal
from orcinus.conformance.wire import exchange, request


def _key(target: ServerUnderTest) -> str:
    if not target.api_key:
        raise Skip("no --api-key was given")
    return target.api_key


def _bare(target: ServerUnderTest, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """A request without the API key."""
    body = {"model": target.model, "messages": HI, "max_tokens": 1} if method == "POST" else None
    return httpx.request(method, target.url + path, json=body, headers=headers, trust_env=False, timeout=60)


def _refused(answer: httpx.Response) -> None:
    expect_error(answer, 401)
    expect(answer.headers.get("www-authenticate"), "no WWW-Authenticate")


@check("keys: none is 401")
def _none(target: ServerUnderTest) -> None:
    _key(target)
    for method, path in (("GET", "/v1/models"), ("POST", CHAT), ("POST", TEXT)):
        _refused(_bare(target, method, path))


@check("keys: a wrong one is 401")
def _wrong(target: ServerUnderTest) -> None:
    key = _key(target)
    changed = ("A" if key[-1] != "A" else "B").join([key[:-1], ""])
    for wrong in (changed, key[:-1], key + "x", "", " ", "x" * 5000):
        _refused(_bare(target, "GET", "/v1/models", {"Authorization": f"Bearer {wrong}".strip()}))
    for whole in (f"Basic {key}", key, f"Bearer{key}"):
        _refused(_bare(target, "GET", "/v1/models", {"Authorization": whole}))


@check("keys: two headers are 401 or 400")
def _two(target: ServerUnderTest) -> None:
    key = _key(target)
    for pair in ((key, "wrong"), ("wrong", key), (key, key)):
        headers = [f"Authorization: Bearer {one}" for one in pair]
        answer = exchange(target, request(target, "GET /v1/models HTTP/1.1", *headers, key=False))
        expect(answer.status in (400, 401), f"status {answer.status}")
        error_in(answer.body, answer.status)


@check("keys: an unknown path without a key is 401", ours=True)
def _unknown(target: ServerUnderTest) -> None:
    _key(target)
    _refused(_bare(target, "GET", "/nope"))


@check("keys: the pages of Orcinus need one too", ours=True)
def _own(target: ServerUnderTest) -> None:
    _key(target)
    for path in ("/metrics", "/ready", "/v1/scheduler", "/openapi.json", "/tokenizer_info"):
        _refused(_bare(target, "GET", path))


@check("keys: /health needs none", ours=True)
def _health(target: ServerUnderTest) -> None:
    _key(target)
    expect_equal(_bare(target, "GET", "/health").status_code, 200, "status")


@check("keys: the right one is taken")
def _right(target: ServerUnderTest) -> None:
    key = _key(target)
    expect_equal(_bare(target, "POST", CHAT, {"Authorization": f"Bearer {key}"}).status_code, 200, "status")
    expect_equal(_bare(target, "GET", "/v1/models", {"authorization": f"bearer {key}"}).status_code, 200, "status of `bearer`")


@check("keys: an empty one does no harm to a server without keys")
def _empty(target: ServerUnderTest) -> None:
    if target.api_key:
        raise Skip("the server has a key")
    expect_equal(_bare(target, "GET", "/v1/models", {"Authorization": "Bearer"}).status_code, 200, "status")
