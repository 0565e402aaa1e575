"""Where requests go, and what is in them."""

from __future__ import annotations

from typing import Any

import pytest

from orcinus.bench.client.target import OPTIONAL, Dialect, Target
from orcinus.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "host", "port", "line"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, "/v1/completions"),
        ("http://127.0.0.1:8000/", "127.0.0.1", 8000, "/v1/completions"),
        ("http://localhost/v1", "localhost", 80, "/v1/completions"),
        ("https://models.example/v1/", "models.example", 443, "/v1/completions"),
        ("http://proxy:1/team/v1", "proxy", 1, "/team/v1/completions"),
        ("http://[::1]:8000", "::1", 8000, "/v1/completions"),
    ],
)
def test_addresses(url: str, host: str, port: int, line: str) -> None:
    target = Target(url)
    assert (target.host, target.port) == (host, port)
    head = target.head("POST", target.path).decode()
    assert head.startswith(f"POST {line} HTTP/1.1\r\nHost: {url.split('/')[2]}\r\n")
    assert (target.tls is not None) == url.startswith("https")


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8000", "ftp://x", "http://", "http://x:99999", "http://a@x", "http://x/?a=1", "http://[", "http://x y"],
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL of a server: give one like"):
        Target(url)


def test_keys_are_sent_and_never_shown() -> None:
    target = Target("http://x", key="secret")
    assert b"\r\nAuthorization: Bearer secret\r\n" in target.head("GET", "/v1/models")
    assert "secret" not in repr(target)
    assert b"Authorization" not in Target("http://x").head("GET", "/v1/models")
    with pytest.raises(ConfigError, match="no header may have"):
        Target("http://x", key="a\r\nb: c")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"api": "chats"}, "completions, chat"),
        ({"prompts": "tokens"}, "ids or text"),
        ({"api": "chat", "prompts": "ids"}, "chats take no token ids"),
    ],
)
def test_what_cannot_be_asked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Target("http://x", **fields)


def test_prompts_are_ids_unless_that_cannot_be() -> None:
    assert not Target("http://x").text
    assert Target("http://x", prompts="text").text
    assert Target("http://x", api="chat").text


def test_a_body_of_exact_length() -> None:
    body = Dialect().body(Target("http://x", "m"), (5, 6), 7, exact=True)
    assert body == {
        "model": "m",
        "prompt": (5, 6),
        "max_tokens": 7,
        "min_tokens": 7,
        "ignore_eos": True,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "return_token_ids": True,
    }


def test_answers_of_any_length_end_where_they_like() -> None:
    body = Dialect().body(Target("http://x", "m"), (5, 6), 7, exact=False)
    assert body["max_tokens"] == 7
    assert not {"min_tokens", "ignore_eos"} & body.keys()


def test_a_chat_has_one_message() -> None:
    body = Dialect().body(Target("http://x", "m", "chat"), "Hello", 7, exact=True)
    assert body["messages"] == [{"role": "user", "content": "Hello"}]
    assert "prompt" not in body


def test_what_a_server_refuses_is_not_sent() -> None:
    dialect = Dialect(frozenset())
    assert dialect.body(Target("http://x", "m"), "a", 7, exact=True).keys() == {
        "model",
        "prompt",
        "max_tokens",
        "temperature",
        "stream",
    }
    assert dialect.unused == OPTIONAL
    assert Dialect(frozenset(OPTIONAL) - {"min_tokens"}).unused == ("min_tokens",)


def test_extra_fields_win() -> None:
    target = Target("http://x", "m", extra={"temperature": 1, "priority": 3})
    body = Dialect().body(target, "a", 7, exact=True)
    assert (body["temperature"], body["priority"]) == (1, 3)
