"""Checks of paths and methods."""

from __future__ import annotations

from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.shapes import error_in, expect_error
from orcinus.conformance.target import CHAT, TEXT, ServerUnderTest
from orcinus.conformance.verdict import Skip, expect, expect_equal
from orcinus.conformance.wire import exchange, request

OWN_PAGES = ("/ready", "/metrics", "/tokenizer_info", "/v1/scheduler", "/openapi.json")
# Other spellings of /v1/models. None may get past an API key that the plain spelling does not.
SPELLINGS = {
    "/v1//models": "/v1//models",
    "a path with ..": "/health/../v1/models",
    "an encoded slash": "/v1%2Fmodels",
    "an encoded dot": "/health/%2e%2e/v1/models",
    "a slash at the end": "/v1/models/",
    "capitals": "/V1/Models",
    "a semicolon": "/v1/models;x=/health",
    "an absolute address": "http://example.org/v1/models",
    "an absolute address of /health with another path": "http://example.org/health/../v1/models",
}


@check("models: a list with the model in it")
def _models(target: ServerUnderTest) -> None:
    found = target.http.get("/v1/models").json()
    expect_equal(found["object"], "list", "object")
    for card in found["data"]:
        expect(isinstance(card["created"], int), "created is no number")
        expect_equal(card["object"], "model", "object of a model")


@check("models: one by its name")
def _model(target: ServerUnderTest) -> None:
    answer = target.http.get(f"/v1/models/{target.model}")
    expect_equal(answer.status_code, 200, "status")
    expect_equal(answer.json()["id"], target.model, "id")


@check("models: an unknown one is 404")
def _unknown_model(target: ServerUnderTest) -> None:
    expect_error(target.http.get("/v1/models/no-such-model"), 404, code="model_not_found")


def _head(path: str) -> Body:
    def body(target: ServerUnderTest) -> None:
        whole = target.http.get(path)
        if path == "/health" and whole.status_code == 404:
            raise Skip("the server has no /health")
        answer = target.http.head(path)
        known = (200, 403) if target.auth else (200,)  # some pages are for admins
        expect(answer.status_code in known, f"status of HEAD is {answer.status_code}")
        expect_equal(answer.content, b"", "the body")

    return body


for _path in ("/v1/models", "/health"):
    add(Check(f"routes: HEAD {_path}", _head(_path)))
for _path in OWN_PAGES:
    add(Check(f"routes: HEAD {_path}", _head(_path), ours=True))


@check("routes: HEAD of a model")
def _head_model(target: ServerUnderTest) -> None:
    expect_equal(target.http.head(f"/v1/models/{target.model}").status_code, 200, "status")


def _wrong_method(method: str, path: str) -> Body:
    def body(target: ServerUnderTest) -> None:
        answer = target.http.request(method, path)
        expect_error(answer, 405)
        expect(answer.headers.get("allow"), "no Allow header")
        expect(method not in answer.headers["allow"], f"Allow says {answer.headers['allow']}")

    return body


WRONG = [("GET", CHAT), ("GET", TEXT), ("PUT", CHAT), ("DELETE", CHAT), ("POST", "/v1/models"), ("PATCH", "/v1/models")]
for _method, _path in WRONG:
    add(Check(f"routes: {_method} {_path} is 405", _wrong_method(_method, _path)))


@check("routes: a wrong method without a body of its own, in OpenAI's form", ours=True)
def _head_of_post(target: ServerUnderTest) -> None:
    answer = target.http.head(CHAT)
    expect_equal(answer.status_code, 405, "status of HEAD")
    expect("POST" in answer.headers.get("allow", ""), "Allow does not name POST")


@check("routes: Allow names every method of a path", ours=True)
def _allow(target: ServerUnderTest) -> None:
    answer = target.http.options("/v1/scheduler")
    expect_error(answer, 405)
    found = {one.strip() for one in answer.headers.get("allow", "").split(",")}
    expect({"GET", "HEAD", "PUT"} <= found, f"Allow says {answer.headers.get('allow')}")


@check("routes: an unknown path is 404")
def _unknown(target: ServerUnderTest) -> None:
    for path in ("/nope", "/v1/nope", "/v1/chat"):
        expect_error(target.http.get(path), 404)
        expect_error(target.http.post(path, json={}), 404)


@check("routes: /v1/embeddings is 404", ours=True)
def _embeddings(target: ServerUnderTest) -> None:
    expect_error(target.http.post("/v1/embeddings", json={"input": "x", "model": target.model}), 404)


def _spelled(path: str) -> Body:
    def body(target: ServerUnderTest) -> None:
        for keyed in (True, False):
            answer = exchange(target, request(target, f"GET {path} HTTP/1.1", key=keyed))
            allowed = {200, 301, 307, 308, 400, 404} if keyed or not target.api_key else {400, 401, 404}
            expect(answer.status in allowed, f"status {answer.status}{'' if keyed else ' without the API key'}")
            if answer.status in (400, 401, 404):
                error_in(answer.body, answer.status)

    return body


for _name, _spelling in SPELLINGS.items():
    add(Check(f"routes: {_name} is the page itself, 400 or 404", _spelled(_spelling)))


@check("routes: an odd Host changes nothing")
def _host(target: ServerUnderTest) -> None:
    for host in ("example.org", "127.0.0.1:1", "[::1]", "a" * 300):
        answer = exchange(target, request(target, "GET /v1/models HTTP/1.1", f"Host: {host}"))
        expect(answer.status in (200, 400, 403), f"status {answer.status} for Host: {host[:20]}")


@check("routes: HTTP/1.1 without a Host, or with two, is 400")
def _no_host(target: ServerUnderTest) -> None:
    for hosts in ([], ["Host: one", "Host: two"]):
        sent = "\r\n".join(["GET /v1/models HTTP/1.1", *hosts, *(f"{name}: {value}" for name, value in target.auth.items())])
        expect_equal(exchange(target, sent.encode() + b"\r\n\r\n").status, 400, f"status with {len(hosts)} Host headers")


@check("routes: without keys, pages of other sites get 403 and do nothing", ours=True)
def _foreign_pages(target: ServerUnderTest) -> None:
    if target.api_key:
        raise Skip("the server has a key")
    host = target.http.base_url.netloc.decode()
    for headers in (
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "rebound.example.org", "Origin": "http://rebound.example.org"},
    ):
        for path in ("/drain", "/pause", CHAT):
            expect_error(target.http.post(path, json={}, headers=headers), 403)
    own = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    expect_equal(target.http.post("/resume", headers=own).status_code, 200, "status for a page of the server itself")
