"""Damaged bodies for every route that takes one: an answer or a 4xx in its dialect's form, and the engine is idle again."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from orcinus.conformance.shapes import LEAK
from tests.examples import examples
from tests.fuzz.mutations import JUNK, spoiled
from tests.serve.conftest import Running
from tests.serve.test_junk import BODIES as CHATS
from tests.serve.test_junk import GONE
from tests.serve.test_junk import JUNK as ODD

SAMPLING = {  # fields of all routes for answers
    "temperature": 0.7, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "seed": 1, "n": 2, "presence_penalty": 0.1,
    "frequency_penalty": 0.1, "repetition_penalty": 1.1, "logit_bias": {"3": 1.0}, "stop": ["x"], "stop_token_ids": [3],
    "min_tokens": 1, "bad_words": ["bad"], "allowed_token_ids": [1, 2, 3], "ignore_eos": True, "timeout": 5, "user": "u",
    "cache_salt": "s", "priority": 1, "truncate_prompt_tokens": 5, "prompt_logprobs": 1, "return_token_ids": True,
}  # fmt: skip
BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{name: ("POST", path, body) for name, (path, body) in CHATS.items()},
    "completion": (
        "POST",
        "/v1/completions",
        {"prompt": ["Hi", "there"], "max_tokens": 2, "echo": True, "logprobs": 1} | SAMPLING,
    ),
    "completion of ids": ("POST", "/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 2, "stream": True, "suffix": None}),
    "chat that samples": (
        "POST",
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "chat_template_kwargs": {"enable_thinking": False}}
        | SAMPLING,
    ),
    "form": ("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 2, "structured_outputs": {"regex": "[a-z]{3}(x|y)*"}}),
    "tokenize": (
        "POST",
        "/tokenize",
        {"messages": [{"role": "user", "content": "Hi"}], "tools": [], "add_special_tokens": True},
    ),
    "detokenize": ("POST", "/detokenize", {"tokens": [1, 2, 3]}),
    "count": ("POST", "/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "Hi"}], "system": "s"}),
    "scheduler": ("PUT", "/v1/scheduler", {"policy": "sarathi:chunk_size=64", "order": "fcfs", "max_batch_size": 8}),
}
VALUES = JUNK | st.sampled_from([one for one in ODD if one is not GONE])


def bounded(body: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """The body with short answers, unless it asks for a length that is refused."""
    for name in {"max_tokens", "max_output_tokens"} & whole.keys():
        length = body.get(name)
        if length is None or (isinstance(length, int) and not isinstance(length, bool) and length > 2):
            body[name] = 2
    return body


def send(server: Running, method: str, path: str, body: Any) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return server.http.request(method, path, content=json.dumps(body).encode(), headers=headers)


def check(answer: httpx.Response, path: str, body: Any) -> None:
    """It is an answer, complete or refused, and says nothing of the inside."""
    assert answer.status_code in (200, 400, 404), (body, answer.text)
    if answer.status_code == 200:
        events = [line[6:] for line in answer.text.split("\n") if line.startswith("data: {")]
        errors = [event["error"] for event in map(json.loads, events) if event.get("error")]
        assert not [error for error in errors if error.get("code") in ("internal_error", "request_failed")], (body, errors)
        return
    found = answer.json()
    assert (found.get("type") == "error") == path.startswith("/v1/messages"), (body, found)
    assert found["error"]["type"] in ("invalid_request_error", "not_found_error"), (body, found)
    assert "\n" not in found["error"]["message"], (body, found)
    assert len(found["error"]["message"]) < 2000, (body, found)
    assert not LEAK.search(found["error"]["message"]), (body, found)


@pytest.fixture(scope="module")
def usual(server: Running) -> dict[str, Any]:
    """How the server schedules, to be put back."""
    state = server.scheduler()
    return {"policy": state["policy"], "order": state["order"], **state["limits"]}


@pytest.mark.parametrize("name", BODIES)
def test_a_right_body_is_answered(server: Running, usual: dict[str, Any], name: str) -> None:
    method, path, body = BODIES[name]
    answer = send(server, method, path, body)
    assert answer.status_code == 200, answer.text
    send(server, "PUT", "/v1/scheduler", usual)


@examples(250, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_damage_is_answered_or_refused(server: Running, usual: dict[str, Any], data: st.DataObject) -> None:
    method, path, whole = BODIES[data.draw(st.sampled_from(sorted(BODIES)))]
    body = bounded(data.draw(spoiled(whole, VALUES)), whole)
    check(send(server, method, path, body), path, body)
    if method == "PUT":
        send(server, "PUT", "/v1/scheduler", usual)
    assert server.idle()
