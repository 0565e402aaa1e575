"""Checks of the endpoints that only Orcinus has."""

from __future__ import annotations

import re
import time
from typing import Any

import httpx

from orcinus.conformance.registry import check
from orcinus.conformance.shapes import expect_error
from orcinus.conformance.target import CHAT, HI, OPENING, STORY, TEXT, Json, ServerUnderTest
from orcinus.conformance.verdict import Skip, expect, expect_equal

SAMPLE = re.compile(r"[a-zA-Z_:][\w:]*(\{.*\})? (-?[\d.e+-]+|NaN|[+-]Inf)( \d+)?$")


def _json(target: ServerUnderTest, method: str, path: str, body: Json | None = None) -> Any:
    answer = target.http.request(method, path, json=body)
    expect(answer.status_code == 200, f"{method} {path} is {answer.status_code}")
    return answer.json()


def _finished_id(target: ServerUnderTest) -> str:
    return str(target.chat(max_tokens=3)["id"])


def _metrics_page(target: ServerUnderTest) -> httpx.Response:
    answer = target.http.get("/metrics")
    if answer.status_code == 403:
        raise Skip("--api-key is no admin key")
    expect_equal(answer.status_code, 200, "status")
    return answer


@check("own: /health and /ready", ours=True)
def _alive(target: ServerUnderTest) -> None:
    for path in ("/health", "/ready"):
        _json(target, "GET", path)


@check("own: /metrics is Prometheus text", ours=True)
def _metrics(target: ServerUnderTest) -> None:
    target.chat(max_tokens=2)
    answer = _metrics_page(target)
    expect(answer.headers["content-type"].startswith("text/plain"), f"content-type is {answer.headers['content-type']}")
    lines = [line for line in answer.text.splitlines() if line and not line.startswith("#")]
    expect(lines, "there are no samples")
    for line in lines:
        expect(SAMPLE.match(line), f"no sample: {line[:50]!r}")


@check("own: /metrics counts requests", ours=True)
def _counted(target: ServerUnderTest) -> None:
    def total() -> float:
        text = _metrics_page(target).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(r"\w+_total\b", line))

    before = total()
    target.chat(max_tokens=2)
    time.sleep(0.2)
    expect(total() > before, "no counter rose with a request")


@check("own: /tokenize and /detokenize undo each other", ours=True)
def _tokenize(target: ServerUnderTest) -> None:
    for text in (OPENING, "naïve 北京 🐋", "  two  spaces\n"):
        ids = _json(target, "POST", "/tokenize", {"prompt": text})["tokens"]
        expect_equal(_json(target, "POST", "/detokenize", {"tokens": ids})["prompt"], text, "the text")


@check("own: /tokenize takes messages", ours=True)
def _tokenize_chat(target: ServerUnderTest) -> None:
    found = _json(target, "POST", "/tokenize", {"messages": HI})
    expect_equal(found["count"], target.chat(max_tokens=1)["usage"]["prompt_tokens"], "the count")


@check("own: /tokenize names unknown fields and refuses a template", ours=True)
def _tokenize_fields(target: ServerUnderTest) -> None:
    answer = target.http.post("/tokenize", json={"prompt": OPENING, "wibble": 1})
    expect_equal(answer.headers.get("x-ignored-fields", "wibble" if answer.status_code == 400 else ""), "wibble", "the header")
    answer = target.http.post("/tokenize", json={"messages": HI, "chat_template": "x"})
    expect_error(answer, 400, "chat_template", "unsupported_parameter")


@check("own: responses and frames have a system_fingerprint", ours=True)
def _fingerprint(target: ServerUnderTest) -> None:
    found = {target.chat(max_tokens=1)["system_fingerprint"]}
    found |= {frame.get("system_fingerprint") for frame in target.stream(TEXT, max_tokens=2).frames}
    expect(len(found) == 1 and all(found), f"they are {found}")


@check("own: paths without a version", ours=True)
def _unversioned(target: ServerUnderTest) -> None:
    for path in (CHAT, TEXT):
        body = {"prompt": OPENING} if path == TEXT else {"messages": HI}
        expect_equal(target.http.post(path.removeprefix("/v1"), json=body | {"max_tokens": 1}).status_code, 200, "status")


@check("own: /tokenize and /detokenize refuse what they cannot", ours=True)
def _tokenize_wrong(target: ServerUnderTest) -> None:
    for body in ({}, {"prompt": 5}, {"prompt": None}, {"prompt": ["a"]}):
        expect_error(target.http.post("/tokenize", json=body), 400, "prompt")
    for tokens, param in (([-1], "tokens"), ([10**9], "tokens"), ("a", "tokens"), ([True], "tokens"), ([5, 1.5], "tokens")):
        expect_error(target.http.post("/detokenize", json={"tokens": tokens}), 400, param)


@check("own: /tokenizer_info", ours=True)
def _tokenizer_info(target: ServerUnderTest) -> None:
    expect(isinstance(_json(target, "GET", "/tokenizer_info"), dict), "the answer is no object")


@check("own: /openapi.json names every route", ours=True)
def _openapi(target: ServerUnderTest) -> None:
    paths = _json(target, "GET", "/openapi.json")["paths"]
    wanted = {CHAT, TEXT, "/v1/models", "/health", "/ready", "/metrics", "/tokenize", "/detokenize", "/v1/scheduler"}
    expect(not wanted - set(paths), f"it lacks {', '.join(sorted(wanted - set(paths)))}")
    expect(all("requestBody" in paths[path]["post"] for path in (CHAT, TEXT)), "it says nothing of bodies")
    listed = set(paths[CHAT]["post"]["responses"])
    expect({"200", "400", "404", "415"} <= listed, f"a chat's answers are {', '.join(sorted(listed))}")


@check("own: /v1/scheduler tells and switches", ours=True)
def _scheduler(target: ServerUnderTest) -> None:
    before = _json(target, "GET", "/v1/scheduler")
    other = "orca" if before["policy"] != "orca" else "stall-free"
    try:
        expect_equal(_json(target, "PUT", "/v1/scheduler", {"policy": other})["policy"], other, "policy")
    finally:
        _json(target, "PUT", "/v1/scheduler", {"policy": before["policy"]})
    for body in ({"policy": "magic"}, {"max_batch_size": 0}, {"wibble": 1}):
        expect_error(target.http.put("/v1/scheduler", json=body), 400)


@check("own: a rejected request leaves nothing behind", ours=True)
def _nothing_behind(target: ServerUnderTest) -> None:
    names = ("running", "waiting", "free_blocks")

    def state() -> list[Any]:
        found = _json(target, "GET", "/v1/scheduler")
        return [found[name] for name in names]

    before = state()
    for body in ({"prompt": [5] * (target.context + 1)}, {"prompt": OPENING, "top_p": 2}, {"prompt": ["a", ""]}):
        expect_error(target.post(TEXT, body), 400)
    expect_equal(state(), before, "running, waiting and free blocks")


@check("own: a request is cancelled by its id", ours=True)
def _cancel(target: ServerUnderTest) -> None:
    body = {"messages": STORY, "stream": True, "max_tokens": 1500, "ignore_eos": True}
    with target.http.stream("POST", CHAT, json=body) as stream:
        lines = stream.iter_lines()
        first = next(line for line in lines if line.startswith("data:"))
        name = first.split('"id":"')[1].split('"')[0]
        expect_error(target.http.post(f"/v1/requests/{name[:-1]}/cancel"), 404)
        answer = target.http.post(f"/v1/requests/{name}/cancel")
        expect_equal(answer.status_code, 200, "status of the cancel")
        rest = [line for line in lines if line.startswith("data:")]
    expect(len(rest) < 1000, "the stream went on")
    expect_equal(rest[-1], "data: [DONE]", "the last frame")


@check("own: what is unknown cannot be cancelled", ours=True)
def _cancel_unknown(target: ServerUnderTest) -> None:
    for name in ("chatcmpl-0", "x" * 300, "%00"):
        expect_error(target.http.post(f"/v1/requests/{name}/cancel"), {400, 404})
    target.unharmed()


@check("own: a request has a timeline", ours=True)
def _timeline(target: ServerUnderTest) -> None:
    found = _json(target, "GET", f"/v1/requests/{_finished_id(target)}/timeline")
    expect(isinstance(found, dict) and found, "the timeline is empty")
    expect_error(target.http.get("/v1/requests/chatcmpl-0/timeline"), 404)


@check("own: /pause holds requests and /resume lets them go", ours=True)
def _pause(target: ServerUnderTest) -> None:
    answer = target.http.post("/pause")
    try:
        expect_equal(answer.status_code, 200, "status of /pause")
        expect_equal(target.http.get("/health").status_code, 200, "status of /health meanwhile")
    finally:
        resumed = target.http.post("/resume")
    expect_equal(resumed.status_code, 200, "status of /resume")
    target.chat(max_tokens=1)


@check("own: a request that is larger than the queue is told so", ours=True)
def _queue(target: ServerUnderTest) -> None:
    answer = target.post(TEXT, {"prompt": ["x"] * 64, "n": 8, "max_tokens": 1})
    if answer.status_code != 200:  # else the queue is larger than a request can be
        expect_error(answer, 400)
        expect_equal(answer.json()["error"]["code"], "too_many_answers", "the code")
