"""A server with API keys: who may do what, what one key learns of another, and what the log says about it."""

from __future__ import annotations

import asyncio
import functools
import json
import operator
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from orcinus.errors import ConfigError
from orcinus.serve.config import ServerConfig
from orcinus.serve.errors import ApiError
from orcinus.serve.keys import Keys, read_keys
from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process

ONE, OTHER, ADMIN = "key-one", "key-other", "key-admin"
BODY = {"prompt": "Once upon a time", "max_tokens": 5, "temperature": 0}
LONG = BODY | {"max_tokens": 1500, "ignore_eos": True}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys") / "access.log"


@pytest.fixture(scope="module")
def guarded(log: Path) -> Iterator[Running]:
    """Keys, an admin key, an access log, four answers for each key, strict fields, impatient keep-alives, merged frames."""
    keys, admins = log.with_name("keys"), log.with_name("admins")
    keys.write_text(f"# two users\n{ONE}\n\n{OTHER}\n")
    admins.write_text(ADMIN)
    files = "--api-key-file", str(keys), "--admin-key-file", str(admins), "--access-log", str(log)
    stream = "--keep-alive", "0.2", "--stream-interval-ms", "100", "--allow-origin", "https://chat.example"
    with serving_in_process(*files, *stream, "--max-queue-per-key", "4", "--order", "fair", "--strict") as running:
        yield running


def complete(server: Running, key: str, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=BODY | fields, headers=bearer(key), timeout=60)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "missing_api_key"),
        ([("Authorization", "Bearer")], "missing_api_key"),
        ([("Authorization", f"Basic {ONE}")], "missing_api_key"),
        ([("Authorization", "Bearer wrong")], "invalid_api_key"),
        ([("Authorization", f"Bearer {ONE}x")], "invalid_api_key"),
        ([("Authorization", f"Bearer {ONE[:-1]}")], "invalid_api_key"),
        ([("Authorization", f"Bearer {ONE}"), ("Authorization", f"Bearer {ONE}")], "invalid_api_key"),
        ([("Authorization", f"Bearer {ONE}"), ("Authorization", "Bearer wrong")], "invalid_api_key"),
    ],
    ids=range(8),
)
@pytest.mark.parametrize("path", ["/v1/models", "/metrics", "/ready", "/openapi.json", "/nope", "//health", "/health/"])
def test_every_path_but_health_needs_a_key(guarded: Running, path: str, headers: list[tuple[str, str]], code: str) -> None:
    answer = httpx.get(guarded.url + path, headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("authentication_error", code)
    assert ONE not in answer.text


@pytest.mark.parametrize(
    ("authorization", "x_api_key", "code"),
    [
        ([], [b"a"], None),
        ([b"Bearer a"], [b"a"], None),
        ([b"Bearer "], [b"a"], None),
        ([b"Basic x"], [b"a"], None),
        ([], [b""], "missing_api_key"),
        ([], [b"c"], "invalid_api_key"),
        ([], [b"a", b"a"], "invalid_api_key"),
        ([b"Bearer a"], [b"b"], "invalid_api_key"),
        ([b"Bearer c"], [b"a"], "invalid_api_key"),
    ],
    ids=range(9),
)
def test_a_key_may_come_under_anthropics_name(authorization: list[bytes], x_api_key: list[bytes], code: str | None) -> None:
    keys = Keys(["a", "b"])
    if code is None:
        assert keys.holder(authorization, x_api_key) == keys.holder([b"Bearer a"])
    else:
        with pytest.raises(ApiError) as caught:
            keys.holder(authorization, x_api_key)
        assert (caught.value.status, caught.value.code) == (401, code)


def test_both_headers_open_every_path(guarded: Running) -> None:
    for headers in ({"x-api-key": ONE}, {"x-api-key": ONE, **bearer(ONE)}):
        assert httpx.get(f"{guarded.url}/v1/models", headers=headers).status_code == 200
    assert httpx.get(f"{guarded.url}/v1/models", headers={"x-api-key": ONE, **bearer(OTHER)}).status_code == 401


@pytest.mark.parametrize(
    ("headers", "status", "kind"), [({}, 401, "authentication_error"), (bearer(ONE), 404, "not_found_error")], ids=range(2)
)
def test_errors_of_anthropics_paths_have_anthropics_form(
    guarded: Running, headers: dict[str, str], status: int, kind: str
) -> None:
    answer = httpx.get(f"{guarded.url}/v1/messages/batches", headers=headers)
    body = answer.json()
    assert (answer.status_code, body["type"], body["error"]["type"]) == (status, "error", kind)
    assert set(body["error"]) == {"type", "message"}
    assert body["request_id"] == answer.headers["request-id"] == answer.headers["x-request-id"]


def test_health_needs_none(guarded: Running) -> None:
    assert httpx.get(f"{guarded.url}/health").status_code == 200
    assert httpx.get(f"{guarded.url}/v1/models", headers=bearer(ONE)).status_code == 200
    assert httpx.get(f"{guarded.url}/v1/models", headers={"authorization": f"bearer {ADMIN}"}).status_code == 200


def test_only_an_admin_steers(guarded: Running) -> None:
    for method, path in (
        ("GET", "/v1/scheduler"),
        ("PUT", "/v1/scheduler"),
        ("GET", "/v1/scheduler/iterations"),
        ("GET", "/v1/scheduler/requests"),
        ("POST", "/v1/scheduler/step"),
        ("POST", "/v1/scheduler/load"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/drain"),
        ("GET", "/metrics"),  # two readings around a request of another key give its sizes
    ):
        answer = httpx.request(method, guarded.url + path, headers=bearer(ONE), json={} if method == "PUT" else None)
        assert answer.status_code == 403, path
        assert answer.json()["error"]["code"] == "admin_key_required"
    state = httpx.put(f"{guarded.url}/v1/scheduler", headers=bearer(ADMIN), json={"max_batch_size": 7}).json()
    assert state["limits"]["max_batch_size"] == 7
    httpx.put(f"{guarded.url}/v1/scheduler", headers=bearer(ADMIN), json={"max_batch_size": 8})


def test_a_key_learns_nothing_of_anothers_prompts(guarded: Running) -> None:
    """The prefix cache is shared under one key alone, whatever salt the other one claims."""
    prompt = "A secret that is long enough to fill a few blocks of the cache: " * 3

    def cached(key: str, **fields: Any) -> int:
        found = complete(guarded, key, prompt=prompt, **fields).json()
        return int(found["usage"]["prompt_tokens_details"]["cached_tokens"])

    assert cached(ONE) == 0
    assert cached(ONE) > 0
    assert cached(OTHER) == 0
    assert cached(OTHER, cache_salt="key-one", user="key-one") == 0
    assert cached(ONE, cache_salt="private") == 0
    assert cached(ONE, cache_salt="private") > 0


def test_a_key_cannot_cancel_or_see_anothers_request(guarded: Running) -> None:
    url, body = f"{guarded.url}/v1/completions", LONG | {"stream": True}
    with httpx.stream("POST", url, json=body, headers=bearer(ONE), timeout=30) as answer:
        name = answer.headers["x-response-id"]
        for key in (OTHER, OTHER):
            for method, what in (("POST", "cancel"), ("GET", "timeline")):
                refused = httpx.request(method, f"{guarded.url}/v1/requests/{name}/{what}", headers=bearer(key))
                assert refused.status_code == 404
        assert httpx.get(f"{guarded.url}/v1/requests/{name}/timeline", headers=bearer(ADMIN)).status_code == 200
        found = httpx.post(f"{guarded.url}/v1/requests/{name}/cancel", headers=bearer(ONE)).json()
        assert found["cancelled"] == 1
        lines = [line for line in answer.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"


def test_a_key_cannot_see_continue_or_delete_anothers_responses(guarded: Running) -> None:
    url = f"{guarded.url}/v1/responses"
    made = httpx.post(url, json={"input": "Hi", "max_output_tokens": 3}, headers=bearer(ONE)).json()
    item = {"type": "item_reference", "id": made["output"][0]["id"]}
    for key in (OTHER, ADMIN):
        assert httpx.get(f"{url}/{made['id']}", headers=bearer(key)).status_code == 404
        assert httpx.delete(f"{url}/{made['id']}", headers=bearer(key)).status_code == 404
        continued = {"input": "Hi", "previous_response_id": made["id"]}
        assert httpx.post(url, json=continued, headers=bearer(key)).status_code == 404
        assert httpx.post(url, json={"input": [item]}, headers=bearer(key)).status_code == 400
    assert httpx.get(f"{url}/{made['id']}", headers=bearer(ONE)).json() == made


def test_one_key_cannot_fill_the_queue(guarded: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: complete(guarded, ONE, max_tokens=60, ignore_eos=True), range(8)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) == 4
        assert {answer.json()["error"]["code"] for answer in refused} == {"client_queue_full"}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert complete(guarded, ONE).status_code == 200


def test_a_client_that_is_told_to_wait_comes_back(guarded: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's own client retries by itself: 429 says when. Nothing is answered before the first one has been refused."""
    monkeypatch.setattr("orcinus.serve.service.PAUSED_S", 1)  # what a paused server says
    resume, admin = f"{guarded.url}/resume", bearer(ADMIN)

    async def go_on(answer: httpx.Response) -> None:
        if answer.status_code == 429:
            httpx.post(resume, headers=admin)

    async def scenario() -> None:
        http = httpx.AsyncClient(event_hooks={"response": [go_on]}, timeout=60)
        async with openai.AsyncOpenAI(base_url=f"{guarded.url}/v1", api_key=ONE, max_retries=8, http_client=http) as client:
            asked = {"model": "orcinus-tiny", "prompt": "Hi", "max_tokens": 20, "extra_body": {"ignore_eos": True}}
            for answer in await asyncio.gather(*(client.completions.create(**asked) for _ in range(6))):
                assert answer.usage is not None
                assert answer.usage.completion_tokens == 20

    httpx.post(f"{guarded.url}/pause", headers=admin)
    try:
        asyncio.run(scenario())
    finally:
        httpx.post(resume, headers=admin)


def test_unknown_fields_are_refused_when_strict(guarded: Running) -> None:
    answer = complete(guarded, ONE, wibble=1)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "wibble"
    assert complete(guarded, ONE, metadata={}).status_code == 200


def test_frames_come_no_closer_than_the_interval_and_lose_nothing(guarded: Running) -> None:
    body = LONG | {"max_tokens": 50, "stream": True, "return_token_ids": True}
    url, frames = f"{guarded.url}/v1/completions", list[dict[str, Any]]()
    began = time.perf_counter()
    with httpx.stream("POST", url, json=body, headers=bearer(ONE), timeout=30) as answer:
        frames += [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: {")]
    took = time.perf_counter() - began
    whole = complete(guarded, ONE, **{**body, "stream": False}).json()["choices"][0]
    assert len(frames) <= took / 0.1 + 2
    assert functools.reduce(operator.iadd, (frame["choices"][0]["token_ids"] for frame in frames), []) == whole["token_ids"]
    assert "".join(frame["choices"][0]["text"] for frame in frames) == whole["text"]


def test_a_silent_stream_is_kept_alive(guarded: Running) -> None:
    httpx.post(f"{guarded.url}/pause", headers=bearer(ADMIN))
    try:
        url, body = f"{guarded.url}/v1/completions", BODY | {"stream": True}
        with httpx.stream("POST", url, json=body, headers=bearer(ONE), timeout=30) as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": keep-alive"
            httpx.post(f"{guarded.url}/resume", headers=bearer(ADMIN))
            assert [line for line in lines if line][-1] == "data: [DONE]"
    finally:
        httpx.post(f"{guarded.url}/resume", headers=bearer(ADMIN))


def test_web_pages_of_the_named_origin_may_call(guarded: Running) -> None:
    asked = {"Origin": "https://chat.example", "Access-Control-Request-Method": "POST"}
    allowed = httpx.options(f"{guarded.url}/v1/chat/completions", headers=asked)
    assert allowed.headers["access-control-allow-origin"] == "https://chat.example"
    other = httpx.options(f"{guarded.url}/v1/chat/completions", headers=asked | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers


def test_the_access_log_has_a_line_for_every_request(guarded: Running, log: Path) -> None:
    def line(request_id: str) -> dict[str, Any]:
        until = time.monotonic() + 5
        while time.monotonic() < until:
            found = [one for one in map(json.loads, log.read_text().splitlines()) if one["request_id"] == request_id]
            if found:
                assert len(found) == 1
                return dict(found[0])
            time.sleep(0.05)
        raise AssertionError(f"no line for {request_id}")

    url = f"{guarded.url}/v1/completions"
    httpx.post(url, json=BODY, headers=bearer(ONE) | {"X-Request-ID": "log-1"})
    httpx.post(url, json={}, headers=bearer(ONE) | {"X-Request-ID": "log-2"})
    httpx.post(url, json=BODY, headers={"X-Request-ID": "log-3"})
    with httpx.stream("POST", url, json=LONG | {"stream": True}, headers=bearer(ONE) | {"X-Request-ID": "log-4"}) as answer:
        next(answer.iter_raw())
    done, wrong, stranger, gone = (line(f"log-{number}") for number in (1, 2, 3, 4))
    assert (done["status"], done["completion_tokens"], done["path"]) == (200, 5, "/v1/completions")
    assert done["duration_ms"] > 0
    assert (wrong["status"], stranger["status"], gone["status"]) == (400, 401, 499)
    assert done["key"] == wrong["key"] == gone["key"] != stranger["key"]
    assert ONE not in log.read_text()


def test_keys_are_compared_as_digests() -> None:
    keys = Keys(["a", "b"], ["c"])
    assert keys.holder([b"Bearer a"]) != keys.holder([b"Bearer b"])
    assert keys.holder([b"Bearer c"]).admin  # type: ignore[union-attr]
    assert keys.holder([b"Bearer a"]).name != "a"  # type: ignore[union-attr]
    with pytest.raises(ApiError):
        keys.holder([b"Bearer d"])
    assert Keys().holder([]) is None


@pytest.mark.parametrize("content", ["", "# nothing\n", "two words\n", "ümlaut\n"])
def test_unusable_key_files_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(ConfigError):
        Keys(read_keys(path))
    with pytest.raises(ConfigError, match="cannot read"):
        read_keys(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("host", "open_to_all"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("::", True), ("example.org", True)],
)
def test_other_machines_need_a_key_or_a_word(host: str, open_to_all: bool) -> None:
    ServerConfig(host=host).check_exposure(keys=True)
    ServerConfig(host=host, insecure=True).check_exposure(keys=False)
    if open_to_all:
        with pytest.raises(ConfigError, match="--api-key-file, or --insecure"):
            ServerConfig(host=host).check_exposure(keys=False)
    else:
        ServerConfig(host=host).check_exposure(keys=False)
