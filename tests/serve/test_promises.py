"""A request with an SLO is accepted if it can be kept, or refused with a time to come again; both are recorded."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process
from tests.waiting import wait_until

PATH = "/v1/completions"
TELL = {"prompt": "Tell me about rain", "max_tokens": 20}


@pytest.fixture(scope="module")
def center() -> Iterator[Running]:
    """Two places, and iterations of about 5 ms."""
    flags = ("--max-batch-size", "2", "--speed", "4")
    with serving_in_process("--simulate", "llama-7b", *flags) as running:
        yield running


@pytest.fixture(scope="module")
def warm(center: Running) -> Running:
    for tokens in (10, 20, 30):
        assert center.http.post(PATH, json=TELL | {"max_tokens": tokens}).status_code == 200
    return center


def counts(center: Running) -> dict[str, float]:
    text = center.http.get("/metrics").text
    return {name: float(value) for name, value in re.findall(r"^orcinus_promises_(\w+)_total{.*} (\S+)", text, re.MULTILINE)}


def test_a_promise_and_what_became_of_it_are_in_the_answer_the_timeline_and_the_metrics(warm: Running) -> None:
    before = counts(warm)
    answer = warm.http.post(PATH, json=TELL | {"slo": {"ttft": 20, "tbt": 5.5}})
    assert answer.status_code == 200, answer.text
    promise = answer.json()["timings"]["promise"]
    assert promise["slo"] == {"ttft": 20, "tbt": 5.5}
    assert promise["kept"] is True
    assert set(promise["predicted"]) == set(promise["measured"]) == {"ttft", "tbt", "tpot", "e2e"}
    assert 0 < promise["measured"]["ttft"] < promise["measured"]["e2e"]
    timeline = warm.http.get(f"/v1/requests/{answer.headers['x-response-id']}/timeline").json()
    assert timeline["answers"][0]["promise"] == promise
    after = counts(warm)
    assert {name: after[name] - before[name] for name in after} == {"made": 1, "kept": 1, "broken": 0, "refused": 0}


def test_requests_without_an_slo_know_nothing_of_promises(warm: Running) -> None:
    before = counts(warm)
    assert "promise" not in warm.http.post(PATH, json=TELL).json()["timings"]
    assert counts(warm) == before


def test_a_refused_request_hears_when_to_come_and_why(warm: Running) -> None:
    with ThreadPoolExecutor(4) as pool:
        busy = [pool.submit(warm.http.post, PATH, json=TELL | {"max_tokens": 600}) for _ in range(4)]
        refused = _until_refused(warm, {"ttft": 0.2})
        seconds = int(refused.headers["retry-after"])
        assert refused.headers["retry-after-ms"] == str(1000 * seconds)
        error = refused.json()["error"]
        assert (error["type"], error["param"], error["code"]) == ("rate_limit_error", "slo", "slo_not_kept")
        assert error["retry_after_ms"] == 1000 * seconds
        assert error["predicted"]["ttft"] > 0.2
        assert f"try again in {seconds} s" in error["message"]
        assert all(one.result().status_code == 200 for one in busy), "others are served"
    assert counts(warm)["refused"] >= 1


def test_a_full_queue_tells_a_time_at_which_the_engine_has_room() -> None:
    with (
        serving_in_process("--simulate", "llama-7b", "--max-queue", "2", "--max-batch-size", "4", "--speed", "4") as small,
        ThreadPoolExecutor(2) as pool,
    ):
        busy = [pool.submit(small.http.post, PATH, json=TELL | {"max_tokens": 800}) for _ in range(2)]
        wait_until(lambda: small.scheduler()["running"] == 2)
        assert small.http.post(PATH, json=TELL).json()["error"]["code"] == "queue_full"
        asked = TELL | {"max_tokens": 5, "slo": {"ttft": 30}}
        refused = small.http.post(PATH, json=asked)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "slo_not_kept")
        assert "the queue is full" in refused.json()["error"]["message"]
        time.sleep(int(refused.headers["retry-after"]))
        assert small.http.post(PATH, json=asked).status_code == 200
        assert not any(one.done() for one in busy), "the queue was still full"
        assert all(one.result().status_code == 200 for one in busy)


def _until_refused(center: Running, slo: dict[str, float]) -> httpx.Response:
    for _ in range(200):
        answer = center.http.post(PATH, json=TELL | {"max_tokens": 1, "slo": slo})
        if answer.status_code == 429:
            return answer
    pytest.fail("all were accepted")


def test_an_slo_out_of_reach_is_no_reason_to_come_again(warm: Running) -> None:
    answer = warm.http.post(PATH, json=TELL | {"slo": {"e2e": 0.001}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "slo_never_kept")
    assert answer.headers["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "headers",
    [
        {"X-SLO-TTFT": "0.000001"},
        {"x-slo-ttft-ms": "0.001"},
        {"x-slo-tpot-ms": "0.001"},
        {"X-SLO-TBT": "0.000001"},
        {"X-Request-Deadline": "0.001"},
    ],
)
@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PATH, TELL),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}),
        ("/v1/responses", {"input": "Hi", "max_output_tokens": 20}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20}),
    ],
)
def test_gateways_say_it_in_headers_on_every_path(
    warm: Running, headers: dict[str, str], path: str, body: dict[str, Any]
) -> None:
    answer = warm.http.post(path, json=body, headers=headers)
    assert answer.status_code == 429, answer.text
    assert answer.json()["error"]["predicted"]["e2e"] > 0
    in_the_body = warm.http.post(path, json=body | {"slo": {"e2e": 0.001}})
    assert in_the_body.status_code == 429


@pytest.mark.parametrize(
    ("slo", "headers", "param", "words"),
    [
        ({}, {}, "slo", "bound at least one of ttft, tbt, tpot and e2e"),
        ({"ttft": 0}, {}, "slo.ttft", "must be above 0"),
        ({"ttft": "fast"}, {}, "slo.ttft", "must be a number"),
        ({"p99": 1}, {}, "slo.p99", "is not a field"),
        (None, {"x-slo-ttft-ms": "soon"}, "x-slo-ttft-ms", "must be a number above 0"),
        (None, {"X-Request-Deadline": "-1"}, "x-request-deadline", "must be a number above 0"),
        (None, {"x-slo-tbt": "inf"}, "x-slo-tbt", "at most 86400"),
    ],
)
def test_a_bound_that_is_none_is_refused(
    center: Running, slo: dict[str, Any] | None, headers: dict[str, str], param: str, words: str
) -> None:
    answer = center.http.post(PATH, json=TELL | ({} if slo is None else {"slo": slo}), headers=headers)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert words in answer.json()["error"]["message"]


def test_while_the_server_is_paused_nothing_is_promised(warm: Running) -> None:
    warm.http.post("/pause")
    try:
        answer = warm.http.post(PATH, json=TELL | {"slo": {"ttft": 5}})
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    finally:
        warm.http.post("/resume")
