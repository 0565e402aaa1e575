"""What must not happen between requests: each test runs an innocent request beside others in one batch."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.examples import fewer
from tests.product import part
from tests.serve.conftest import Running

INNOCENT = {
    "prompt": "There was once a robot",
    "max_tokens": fewer(25, least=12),
    "temperature": 0,
    "ignore_eos": True,
    "logprobs": 1,
}
SAMPLED = INNOCENT | {"temperature": 1.2, "seed": 11, "top_p": 0.9}
TOKEN = 300


def post(server: Running, body: dict[str, Any], timeout: float = 60) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=timeout)


def hang_up(server: Running, body: dict[str, Any]) -> None:
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body | {"stream": True}) as answer:
        next(answer.iter_raw())


def cancel(server: Running, body: dict[str, Any]) -> None:
    with httpx.stream("POST", f"{server.url}/v1/completions", json=body | {"stream": True}) as answer:
        lines = answer.iter_lines()
        next(lines)
        httpx.post(f"{server.url}/v1/requests/{answer.headers['x-response-id']}/cancel")
        list(lines)


def short_wait(server: Running, body: dict[str, Any]) -> None:
    post(server, body | {"timeout": 0.05, "max_tokens": 1000})


def call_a_tool(server: Running) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    body = {"messages": [{"role": "user", "content": "Look!"}], "tools": [tool], "tool_choice": "required", "max_tokens": 8}
    httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)


NASTY: dict[str, Callable[[Running], object]] = {
    "bias": lambda s: post(s, INNOCENT | {"logit_bias": {str(TOKEN): 100}, "max_tokens": 8}),
    "penalties": lambda s: post(s, INNOCENT | {"repetition_penalty": 50, "presence_penalty": 2, "max_tokens": 8}),
    "has a form": lambda s: post(s, INNOCENT | {"guided_regex": "[0-9]{12}", "max_tokens": 8}),
    "has a form, sampled": lambda s: post(s, SAMPLED | {"guided_choice": ["a fox", "an owl"], "n": 3, "max_tokens": 8}),
    "calls a tool": call_a_tool,
    "stop at once": lambda s: post(s, INNOCENT | {"stop": ["e", "a"], "min_tokens": 0}),
    "ends early": lambda s: post(s, INNOCENT | {"max_tokens": 1}),
    "hot and seeded": lambda s: post(s, INNOCENT | {"temperature": 2, "seed": 11, "max_tokens": 8}),
    "many answers": lambda s: post(s, INNOCENT | {"n": 4, "temperature": 1, "max_tokens": 10}),
    "scores its prompt": lambda s: post(s, INNOCENT | {"echo": True, "max_tokens": 1}),
    "hangs up": lambda s: hang_up(s, INNOCENT),
    "is cancelled": lambda s: cancel(s, INNOCENT),
    "is too late": lambda s: short_wait(s, INNOCENT),
    "is refused": lambda s: post(s, INNOCENT | {"max_tokens": 10_000}),
    "long prompt": lambda s: post(s, INNOCENT | {"prompt": "word " * 700, "max_tokens": 2}),
}


BODIES = {"greedy": INNOCENT, "sampled": SAMPLED}
USUAL = [("bias", "greedy"), ("many answers", "sampled"), ("hangs up", "greedy"), ("long prompt", "sampled")]
USUAL += [("has a form", "sampled"), ("calls a tool", "greedy")]


@pytest.fixture(scope="module")
def alone(server: Running) -> dict[str, dict[str, Any]]:
    """What each body gets alone."""
    return {name: post(server, body).json()["choices"][0] for name, body in BODIES.items()}


@pytest.mark.parametrize(("nasty", "innocent"), part(*USUAL, full=sorted({*itertools.product(NASTY, BODIES)} - {*USUAL})))
def test_an_innocent_request_gets_what_it_gets_alone(
    server: Running, nasty: str, innocent: str, alone: dict[str, dict[str, Any]]
) -> None:
    stop = threading.Event()

    def disturb() -> None:
        while not stop.is_set():
            NASTY[nasty](server)

    with ThreadPoolExecutor(4) as pool:
        disturbing = [pool.submit(disturb) for _ in range(3)]
        time.sleep(0.05)
        found = post(server, BODIES[innocent]).json()["choices"][0]
        stop.set()
        for one in disturbing:
            one.result()
    expected = alone[innocent]
    assert found["text"] == expected["text"]
    assert found["logprobs"]["tokens"] == expected["logprobs"]["tokens"]
    assert found["logprobs"]["token_logprobs"] == pytest.approx(expected["logprobs"]["token_logprobs"], abs=1e-4)
    assert server.idle()


def test_equal_request_ids_are_two_requests(server: Running) -> None:
    headers = {"X-Request-ID": "same"}
    with ThreadPoolExecutor(2) as pool:
        answers = list(
            pool.map(lambda _: httpx.post(f"{server.url}/v1/completions", json=INNOCENT, headers=headers, timeout=60), range(2))
        )
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [answer.headers["x-request-id"] for answer in answers] == ["same", "same"]
    assert answers[0].json()["id"] != answers[1].json()["id"]
    assert answers[0].json()["choices"][0]["text"] == answers[1].json()["choices"][0]["text"]


def test_a_refused_request_leaves_nothing_behind(server: Running) -> None:
    before = server.scheduler()
    for body in ({}, INNOCENT | {"max_tokens": 10_000}, INNOCENT | {"prompt": [-1]}, INNOCENT | {"model": "x"}):
        assert post(server, body).status_code in (400, 404)
    after = server.scheduler()
    assert after == before
    assert after["queue"] == {"answers": 0, "tokens": 0}


@pytest.mark.full
def test_the_heavy_client_waits_and_not_the_light_one(server: Running) -> None:
    """The order `fair`, switched on while requests wait: a light client is not behind a crowd."""
    usual = server.scheduler()["order"]
    server.http.put("/v1/scheduler", json={"order": "fair"})
    try:
        ends: dict[str, list[float]] = {"heavy": [], "light": []}

        def one(user: str) -> None:
            post(server, INNOCENT | {"user": user, "max_tokens": 100})
            ends[user].append(time.monotonic())

        with ThreadPoolExecutor(44) as pool:
            crowd = [pool.submit(one, "heavy") for _ in range(40)]
            time.sleep(0.3)
            light = [pool.submit(one, "light") for _ in range(2)]
            for waiting in (*crowd, *light):
                waiting.result()
        later = [end for end in ends["heavy"] if end > max(ends["light"])]
        assert len(later) >= 10, "with first come, first served there would be none"
    finally:
        server.http.put("/v1/scheduler", json={"order": usual})
    assert server.idle()
