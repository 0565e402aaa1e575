"""The page of a server, and what it asks the server for."""

from __future__ import annotations

import threading
from itertools import chain

import httpx
import pytest

from tests.serve.conftest import Running, serving
from tests.serve.watch import watching
from tests.waiting import wait_until


def test_the_page_and_its_files(server: Running) -> None:
    answer = server.http.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    script = server.http.get("/page/main.js")
    assert script.headers["content-type"].startswith("text/javascript")
    again = server.http.get("/page/main.js", headers={"If-None-Match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert server.http.get("/page/nothing.js").status_code == 404
    whole = server.http.get("/page/standalone.html")
    assert whole.headers["content-security-policy"] == "sandbox"  # it is saved, never run here
    assert "/" not in server.http.get("/openapi.json").json()["paths"]


def test_a_server_may_have_no_page() -> None:
    with serving("--no-page", "--simulate", "llama-7b") as bare:
        assert bare.http.get("/").status_code == 404
        assert bare.http.get("/page/main.js").status_code == 404


def test_the_page_needs_no_key_and_what_it_shows_does() -> None:
    with serving("--api-key", "one", "--simulate", "llama-7b") as keyed:
        assert keyed.http.get("/").status_code == 200
        assert keyed.http.get("/page/main.js").status_code == 200
        for path in ("/v1/scheduler/iterations", "/v1/scheduler/requests", "/v1/models"):
            assert keyed.http.get(path).status_code == 401
        assert keyed.http.get("/v1/scheduler/requests", headers={"Authorization": "Bearer one"}).status_code == 403


def test_live_requests_hold_the_blocks_of_their_tokens(server: Running) -> None:
    shared = "The same words begin both prompts, and fill more than one block of keys and values. " * 2
    server.http.post("/v1/completions", json={"prompt": shared, "max_tokens": 1})  # its blocks are cached from now on
    server.http.post("/pause")
    bodies = [{"prompt": shared + end, "max_tokens": 200, "ignore_eos": True} for end in ("One", "Two")]
    posts = [
        threading.Thread(target=httpx.post, args=(f"{server.url}/v1/completions",), kwargs={"json": body, "timeout": 60})
        for body in bodies
    ]
    try:
        for post in posts:
            post.start()
        wait_until(lambda: len(server.http.get("/v1/scheduler/requests").json()["requests"]) == 2)
        waiting = server.http.get("/v1/scheduler/requests").json()
        assert [one["blocks"] for one in waiting["requests"]] == [[], []]
        server.http.post("/v1/scheduler/step", json={"iterations": 8})
        wait_until(lambda: all(one["output_tokens"] for one in server.http.get("/v1/scheduler/requests").json()["requests"]))
        found = server.http.get("/v1/scheduler/requests").json()
        (size,), (blocks,) = found["block_size"], found["num_blocks"]
        one, two = found["requests"]
        for request in (one, two):
            assert len(request["blocks"]) == -(-request["computed_tokens"] // size)
            assert request["arrival"] <= found["now"]
            assert request["computed_tokens"] == request["prompt_tokens"] + request["output_tokens"] - 1
        common = set(one["blocks"]) & set(two["blocks"])
        assert len(common) == (waiting["requests"][0]["prompt_tokens"] - 4) // size, (
            "the blocks of the common prefix are shared"
        )
        held = len(set(one["blocks"]) | set(two["blocks"]))
        assert server.scheduler()["free_blocks"] == blocks - held
    finally:
        server.http.post("/resume")
        for post in posts:
            post.join()
    assert server.idle()
    assert server.http.get("/v1/scheduler/requests").json()["requests"] == []


def test_watchers_hear_latencies_and_who_left(server: Running) -> None:
    with watching(server.url) as seen:
        first = server.http.post("/v1/completions", json={"prompt": "x", "max_tokens": 3, "ignore_eos": True}).json()["id"]
        server.http.post("/v1/completions", json={"prompt": "y", "max_tokens": 2, "ignore_eos": True})
    mine = [event for event in seen if any(chunk["id"] == f"{first}-0" for chunk in event["chunks"])]
    assert [list(event["ttft"]) for event in mine] == [[f"{first}-0"], [], []]
    assert [list(event["tbt"]) for event in mine] == [[], [f"{first}-0"], [f"{first}-0"]]
    gaps = [seconds for event in mine for seconds in chain.from_iterable(event["tbt"].values())]
    assert all(seconds >= 0 for seconds in (*gaps, *mine[0]["ttft"].values()))
    assert [[len(gaps) for gaps in event["tbt"].values()] for event in mine] == [[], [1], [1]]
    assert [f"{first}-0" in event["removed"] for event in seen[:4]] == [False, False, False, True]


def test_watchers_hear_every_token_of_an_answer_that_was_held_back(server: Running) -> None:
    before = server.scheduler()["policy"]
    server.http.put("/v1/scheduler", json={"policy": "request-level"})
    try:
        with watching(server.url) as seen:
            body = {"requests": [{"prompt": "one", "max_tokens": 5}, {"prompt": "two", "max_tokens": 9}]}
            assert server.http.post("/v1/scheduler/load", json=body).json()["failed"] == 0
        told = [len(event["ttft"]) + sum(map(len, event["tbt"].values())) for event in seen]
        assert sum(told) >= 5 + 9
    finally:
        server.http.put("/v1/scheduler", json={"policy": before})


def test_a_load_of_the_servers_own(server: Running) -> None:
    body = {"requests": [{"prompt": f"number {number}", "max_tokens": 3} for number in range(20)]}
    with watching(server.url) as seen:
        outcome = server.http.post("/v1/scheduler/load", json=body).json()
    assert (outcome["requests"], outcome["failed"], outcome["error"]) == (20, 0, None)
    assert max(len(event["chunks"]) for event in seen) > 6, "more at once than a browser has connections"
    assert server.idle()


def test_a_load_says_what_failed_and_ends_with_its_client(server: Running) -> None:
    too_long = {"prompt": "word " * 5000, "max_tokens": 3}
    outcome = server.http.post("/v1/scheduler/load", json={"requests": [too_long, {"prompt": "Hi", "max_tokens": 2}]}).json()
    assert (outcome["requests"], outcome["failed"]) == (2, 1)
    assert "tokens" in outcome["error"]
    endless = {"requests": [{"prompt": "Hi", "max_tokens": 1500}] * 3 + [{"prompt": "Ho", "max_tokens": 5, "at": 60}]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/scheduler/load", json=endless, timeout=0.3)
    wait_until(lambda: not server.http.get("/v1/scheduler/requests").json()["requests"], pause=0.1)
    for wrong in (
        {},
        {"requests": []},
        {"requests": [{"prompt": "a"}]},
        {"requests": [{"prompt": "a", "max_tokens": 1, "at": -1}]},
    ):
        assert server.http.post("/v1/scheduler/load", json=wrong).status_code == 400
    assert server.idle()
