"""Wrong input: the right status, an OpenAI-style body that names the field, and a server that is none the worse for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.conftest import Running

HI = [{"role": "user", "content": "Hi"}]
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def control(server: Running) -> Any:
    """What two tokens of a chat are, with their probabilities."""
    asked = {"messages": HI, "temperature": 0, "max_tokens": 2, "logprobs": True}
    return server.http.post(CHAT, json=asked).json()["choices"]


@pytest.fixture(scope="module")
def before(server: Running) -> Any:
    return control(server)


@pytest.fixture(autouse=True)
def unharmed(server: Running, before: Any) -> Iterator[None]:
    """After every wrong request the server is healthy and empty, and answers as before."""
    yield
    assert server.http.get("/health").status_code == 200
    assert server.idle()
    assert control(server) == before


def error(answer: Any) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"]
    found: dict[str, Any] = body["error"]
    return found


def text(**fields: Any) -> dict[str, Any]:
    return {"prompt": "Once", "max_tokens": 2} | fields


def talk(**fields: Any) -> dict[str, Any]:
    return {"messages": HI, "max_tokens": 2} | fields


BAD: list[tuple[str, dict[str, Any], int, str | None]] = [
    (TEXT, {}, 400, "prompt"),
    (TEXT, text(prompt=""), 400, "prompt"),
    (TEXT, text(prompt=[]), 400, "prompt"),
    (TEXT, text(prompt=[[]]), 400, "prompt[0]"),
    (TEXT, text(prompt=[-1]), 400, "prompt[0]"),
    (TEXT, text(prompt=[10**9]), 400, "prompt[0]"),
    (TEXT, text(prompt=["a", 1]), 400, None),
    (TEXT, text(prompt=7), 400, "prompt"),
    (TEXT, text(prompt="word " * 5000), 400, "prompt"),
    (TEXT, text(prompt=["x"] * 100_000), 400, "prompt"),
    (TEXT, text(model="gpt-7"), 404, "model"),
    (TEXT, text(max_tokens=0), 400, "max_tokens"),
    (TEXT, text(max_tokens=-1), 400, "max_tokens"),
    (TEXT, text(max_tokens=10**12), 400, "max_tokens"),
    (TEXT, text(max_tokens="many"), 400, "max_tokens"),
    (TEXT, text(max_tokens=2.5), 400, "max_tokens"),
    (TEXT, text(temperature=-1), 400, "temperature"),
    (TEXT, text(temperature=100), 400, "temperature"),
    (TEXT, text(top_p=0), 400, "top_p"),
    (TEXT, text(top_p=1.5), 400, "top_p"),
    (TEXT, text(top_k=-5), 400, "top_k"),
    (TEXT, text(n=0), 400, "n"),
    (TEXT, text(n=10**6), 400, "n"),
    (TEXT, text(best_of=2), 400, "best_of"),
    (TEXT, text(seed=2**70), 400, "seed"),
    (TEXT, text(stop=["x"] * 100), 400, "stop"),
    (TEXT, text(stop=""), 400, "stop"),
    (TEXT, text(stop=3), 400, "stop"),
    (TEXT, text(logit_bias={"99999": 1}), 400, "logit_bias.99999"),
    (TEXT, text(logit_bias={"a": 1}), 400, "logit_bias.a"),
    (TEXT, text(stop_token_ids=[10**7]), 400, None),
    (TEXT, text(allowed_token_ids=[]), 400, "allowed_token_ids"),
    (TEXT, text(allowed_token_ids=[5, 2048]), 400, "allowed_token_ids[1]"),
    (TEXT, text(allowed_token_ids=[5], stop_token_ids=[5], min_tokens=1, max_tokens=2), 400, "allowed_token_ids"),
    (CHAT, talk(allowed_token_ids=[33, 67], bad_words=["?", "a"]), 400, "allowed_token_ids"),
    (TEXT, text(bad_words=["fine", " "]), 400, "bad_words[1]"),
    (TEXT, text(logprobs=1000), 400, "logprobs"),
    (TEXT, text(logprobs=-1), 400, "logprobs"),
    (CHAT, talk(top_logprobs=50, logprobs=True), 400, "top_logprobs"),
    (CHAT, talk(top_logprobs=2), 400, "top_logprobs"),
    (TEXT, text(min_tokens=5), 400, "min_tokens"),
    (CHAT, {"messages": HI, "min_tokens": 5, "max_tokens": None}, 400, "min_tokens"),
    (TEXT, text(presence_penalty=5), 400, "presence_penalty"),
    (TEXT, text(stream="yes"), 400, "stream"),
    (TEXT, text(stream_options={"include_usage": True}), 400, "stream_options"),
    (TEXT, text(suffix="x"), 400, "suffix"),
    (CHAT, {}, 400, "messages"),
    (CHAT, talk(messages=[]), 400, "messages"),
    (CHAT, talk(messages="Hi"), 400, "messages"),
    (CHAT, talk(messages=[{"role": "wizard", "content": "Hi"}]), 400, "messages[0].role"),
    (CHAT, talk(messages=[{"role": "user", "content": None}]), 400, "messages[0].content"),
    (CHAT, talk(messages=[{"role": "user", "content": 5}]), 400, "messages[0].content"),
    (
        CHAT,
        talk(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.0.1/"}}]}]),
        400,
        "messages[0].content[0].type",
    ),
    (CHAT, talk(response_format={"type": "xml"}), 400, "response_format.type"),
    (CHAT, talk(tools=[{"type": "function"}]), 400, "tools[0].function"),
    (CHAT, talk(chat_template="x"), 400, "chat_template"),
    (CHAT, talk(cache_salt="ü"), 400, "cache_salt"),
    (CHAT, talk(cache_salt="x" * 10**6), 400, "cache_salt"),
    (CHAT, talk(priority=1.5), 400, "priority"),
    (CHAT, talk(timeout=0), 400, "timeout"),
]


@pytest.mark.parametrize(("path", "body", "status", "param"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_wrong_fields(server: Running, path: str, body: dict[str, Any], status: int, param: str | None) -> None:
    answer = server.http.post(path, json=body)
    assert answer.status_code == status, answer.text
    found = error(answer)
    assert found["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert found["code"]
    if param is not None:
        assert found["param"] == param, found


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b'{"prompt": "x", "temperature": NaN}', "application/json", 400),
        (b'{"prompt": "x", "temperature": 1e400}', "application/json", 400),
        (b'{"prompt": "\xff"}', "application/json", 400),
        (b'{"prompt": "\\ud800"}', "application/json", 400),
        (b'{"prompt": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", "application/json", 400),
        (b'{"prompt": "x"}', "text/plain", 415),
        (b'{"prompt": "' + b"x" * 12_000_000 + b'"}', "application/json", 413),
    ],
)
def test_bodies_that_are_none(server: Running, content: bytes, kind: str, status: int) -> None:
    answer = server.http.post(TEXT, content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    error(answer)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", CHAT, 405), ("POST", "/v1/models", 405), ("GET", "/nope", 404)])
def test_wrong_paths_and_methods(server: Running, method: str, path: str, status: int) -> None:
    answer = server.http.request(method, path)
    assert answer.status_code == status
    error(answer)
    assert status != 405 or answer.headers["allow"]


def test_a_path_says_everything_that_it_takes(server: Running) -> None:
    assert server.http.delete("/v1/scheduler").headers["allow"] == "GET, HEAD, PUT"
    assert server.http.get("/v1/completions").headers["allow"] == "POST"


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a\x00b"},
        {"temperature": 1e-9},
        {"top_k": -1},
        {"top_k": 0},
        {"seed": None},
        {"logprobs": None},
        {"stop": None},
        {"logit_bias": {"5": 1e9}},
        {"repetition_penalty": 1.0},
        {"best_of": 1},
        {"stream": False},
        {"user": "x", "metadata": {"a": "b"}},
    ],
)
def test_odd_but_fine(server: Running, fields: dict[str, Any]) -> None:
    answer = server.http.post(TEXT, json=text(**fields))
    assert answer.status_code == 200, answer.text


def test_special_tokens_in_a_users_text_are_text(server: Running) -> None:
    """A user cannot end their own message and speak for the assistant."""
    plain = server.http.post(CHAT, json=talk(messages=[{"role": "user", "content": "<|im_end|>"}])).json()["usage"]
    words = server.http.post(CHAT, json=talk(messages=[{"role": "user", "content": ""}])).json()["usage"]
    assert plain["prompt_tokens"] > words["prompt_tokens"] + 3


@pytest.mark.parametrize("body", [{"policy": "magic"}, {"order": "magic"}, {"max_batch_size": 0}, {"policy": 5}, {"wibble": 1}])
def test_a_switch_that_cannot_be_made(server: Running, body: dict[str, Any]) -> None:
    before = server.scheduler()
    answer = server.http.put("/v1/scheduler", content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    error(answer)
    assert server.scheduler()["policy"] == before["policy"]
