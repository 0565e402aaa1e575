"""Damaged bodies for every route that takes one: an answer or a 4xx in its dialect's form, and the engine is idle again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from orcinus.conformance.shapes import LEAK
from tests.examples import examples
from tests.fuzz.bodies import BODIES, ODD
from tests.fuzz.mutations import JUNK, spoiled
from tests.serve.conftest import Running

VALUES = JUNK | st.sampled_from(ODD)


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


def control(server: Running) -> Any:
    """An answer that must not change."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "temperature": 0, "max_tokens": 8}
    return send(server, "POST", "/v1/chat/completions", body).json()["choices"]


@pytest.fixture(scope="module", autouse=True)
def _unchanged(server: Running) -> Iterator[None]:
    before = control(server)
    yield
    assert control(server) == before


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
