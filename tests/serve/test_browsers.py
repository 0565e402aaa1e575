"""Web pages and a server without keys: foreign ones may do nothing, allowed ones everything, and programs notice none of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from orcinus.errors import ConfigError
from orcinus.serve.browsers import Browsers
from orcinus.serve.config import ServerConfig
from orcinus.serve.errors import ApiError
from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process

HERE = "127.0.0.1:8000"


def code(browsers: Browsers, host: str | None = HERE, origin: str | None = None, site: str | None = None) -> str | None:
    """The code of the refusal; None if there is none."""
    sent = {"host": host, "origin": origin, "sec-fetch-site": site}
    try:
        browsers.check([(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value is not None])
    except ApiError as error:
        return error.code if error.status == 403 else str(error.status)
    return None


OURS = [
    (HERE, None),
    ("localhost", None),
    ("LOCALHOST:8000", None),
    ("localhost.:8000", None),
    ("chat.localhost:1", None),
    ("127.8.9.1:8000", None),
    ("[::1]:8000", None),
    ("[0:0:0:0:0:0:0:1]", None),
    ("[::ffff:127.0.0.1]:8000", None),
    (None, None),
    (HERE, "http://127.0.0.1:8000"),
    (HERE, "HTTP://127.0.0.1:8000"),
    (HERE, "http://localhost:8000"),
    ("LocalHost:8000", "http://localhost:8000"),
    ("localhost.:8000", "http://localhost.:8000"),
    ("localhost", "http://localhost"),
    ("localhost", "http://localhost:80"),
    ("localhost:80", "http://localhost"),
    ("localhost", "https://localhost"),
    ("localhost:443", "https://localhost"),
    ("[::1]:8000", "http://[::1]:8000"),
    ("[::1]:8000", "http://[0:0::1]:8000"),
]
HOSTS_OF_OTHERS = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example:8000",
    "localhost.evil.example",
    "evillocalhost",
    "127.1",
    "2130706433",
    "192.168.1.5:8000",
    "8.8.8.8",
    "[2001:db8::1]:8000",
    "0.0.0.0:8000",
    "",
    ":8000",
    "localhost@evil.example",
    "localhost:8000:8000",
    "[::1",
    "127.0.0.1:port",
]
ORIGINS_OF_OTHERS = [
    "https://evil.example",
    "http://evil.example:8000",
    "http://localhost:3000",
    "http://127.0.0.1",
    "https://127.0.0.1",
    "http://127.0.0.1:80000",
    "http://127.0.0.1:8000.evil.example",
    "http://127.0.0.1.evil.example:8000",
    "http://localhost:8000@evil.example",
    "http://evil.example/http://127.0.0.1:8000",
    "http://[::1]:8001",
    "ftp://127.0.0.1:8000",
    "chrome-extension://abcdef",
    "file://",
    "null",
    "NULL",
    "",
    "nonsense",
    "http://",
    "http://\xe9vil.example",
]


@pytest.mark.parametrize(("host", "origin"), OURS)
@pytest.mark.parametrize("site", [None, "same-origin", "same-site", "none"])
def test_this_machine_may_ask(host: str | None, origin: str | None, site: str | None) -> None:
    assert code(Browsers("127.0.0.1"), host, origin, site) is None


@pytest.mark.parametrize("host", HOSTS_OF_OTHERS)
def test_names_that_are_not_the_servers_own_are_refused(host: str) -> None:
    assert code(Browsers("127.0.0.1"), host) == "host_not_allowed"
    assert code(Browsers("127.0.0.1"), host, f"http://{host}", "same-origin") == "host_not_allowed", "as a rebound page asks"


@pytest.mark.parametrize("origin", ORIGINS_OF_OTHERS)
def test_pages_of_others_are_refused(origin: str) -> None:
    assert code(Browsers("127.0.0.1"), HERE, origin) == "origin_not_allowed"
    assert code(Browsers("127.0.0.1", "https://chat.example.org"), HERE, origin) == "origin_not_allowed"
    assert code(Browsers("127.0.0.1", "*"), HERE, origin, "cross-site") is None


@pytest.mark.parametrize("site", ["cross-site", "CROSS-SITE", " cross-site "])
def test_what_a_browser_calls_cross_site_is_refused_without_an_origin_too(site: str) -> None:
    assert code(Browsers("127.0.0.1"), site=site) == "origin_not_allowed"
    assert code(Browsers("127.0.0.1"), HERE, "http://127.0.0.1:8000", site) == "origin_not_allowed"
    allowed = Browsers("127.0.0.1", "https://chat.example.org, http://localhost:3000/")
    assert code(allowed, HERE, "https://chat.example.org", site) is None
    assert code(allowed, HERE, None, site) == "origin_not_allowed", "an image of another site, say"


@pytest.mark.parametrize(
    ("named", "sent"),
    [
        ("https://chat.example.org", "https://chat.example.org"),
        ("https://chat.example.org", "https://CHAT.example.org:443"),
        ("HTTPS://Chat.Example.Org:443/", "https://chat.example.org."),
        ("http://[0::1]:3000", "http://[::1]:3000"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("null", "null"),
        ("app://obsidian.md,vscode-webview://abc", "vscode-webview://abc"),
    ],
)
def test_an_origin_is_the_same_however_it_is_spelled(named: str, sent: str) -> None:
    assert code(Browsers("127.0.0.1", named), HERE, sent) is None
    for other in ("https://chat.example.org:8443", "https://sub.chat.example.org", "http://chat.example.org"):
        assert code(Browsers("127.0.0.1", named), HERE, other) == "origin_not_allowed"


def test_a_name_that_is_bound_or_allowed_is_the_servers_own() -> None:
    assert code(Browsers("192.168.1.5"), "192.168.1.5:8000") is None
    assert code(Browsers("192.168.1.5"), "192.168.1.6:8000") == "host_not_allowed"
    assert code(Browsers("gpu-box"), "GPU-box.:8000") is None
    for everywhere in ("0.0.0.0", "::"):
        assert code(Browsers(everywhere), "192.168.1.6:8000") is None
        assert code(Browsers(everywhere), "[2001:db8::1]") is None
        assert code(Browsers(everywhere), "gpu-box:8000") == "host_not_allowed"
    named = Browsers("127.0.0.1", None, "LLM.example.org., *.lan, 10.0.0.7, ::2")
    for host in ("llm.example.org", "Llm.Example.Org.:443", "a.lan", "b.a.lan:1", "10.0.0.7:8000", "[::2]"):
        assert code(named, host) is None, host
    for host in ("example.org", "x.llm.example.org", "lan", "10.0.0.8"):
        assert code(named, host) == "host_not_allowed", host
    assert code(named, "llm.example.org", "https://llm.example.org", "same-origin") is None, "behind TLS"
    assert code(Browsers("127.0.0.1", None, "*"), "whatever.example:1") is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("allow_origin", "chat.example.org"),
        ("allow_origin", "https://a.example/path"),
        ("allow_origin", "https://*.example.org"),
        ("allow_origin", "https://"),
        ("allow_host", "https://a.example"),
        ("allow_host", "a.example:8000"),
        ("allow_host", "a b"),
        ("allow_host", "a.*"),
    ],
)
def test_what_is_no_origin_or_host_is_refused_at_the_start(field: str, value: str) -> None:
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=re.escape(f"--{field.replace('_', '-')} {value} is not a") + ".*write it like"):
        ServerConfig(**wrong)


@pytest.fixture(scope="module")
def open_server() -> Iterator[Running]:
    with serving_in_process("--simulate", "llama-7b", "--speed", "50", "--served-model-name", "m") as running:
        yield running


CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
ROUTES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/drain"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("PUT", "/v1/scheduler"),
    ("GET", "/v1/scheduler"),
    ("GET", "/v1/scheduler/iterations"),
    ("HEAD", "/v1/scheduler/iterations"),
    ("GET", "/v1/scheduler/requests"),
    ("POST", "/v1/scheduler/step"),
    ("POST", "/v1/scheduler/load"),
    ("POST", "/v1/requests/chatcmpl-1/cancel"),
    ("GET", "/v1/requests/chatcmpl-1/timeline"),
    ("GET", "/metrics"),
    ("GET", "/v1/models"),
    ("GET", "/openapi.json"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_refuses_foreign_pages(open_server: Running, method: str, path: str) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null", "Content-Type": "text/plain"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "rebound.example:8000", "Origin": "http://rebound.example:8000", "Sec-Fetch-Site": "same-origin"},
    ):
        answer = open_server.http.request(method, path, headers=headers)
        assert answer.status_code == 403, headers
        assert "access-control-allow-origin" not in answer.headers
        if method != "HEAD":
            error = answer.json()["error"]
            assert error["code"] == ("host_not_allowed" if "Host" in headers else "origin_not_allowed")
            assert ("--allow-host" if "Host" in headers else "--allow-origin") in error["message"]
    assert open_server.http.get("/ready").json() == {"status": "ready"}, "neither drained nor paused"


def test_programs_and_the_servers_own_pages_notice_nothing(open_server: Running) -> None:
    port = open_server.url.rpartition(":")[2]
    for headers in (
        {},
        {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}", "Sec-Fetch-Site": "same-origin"},
        {"Host": "127.0.0.1"},
        {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"},
    ):
        assert open_server.http.post("/v1/chat/completions", json=CHAT, headers=headers).status_code == 200, headers
    assert open_server.http.get("/health", headers={"Host": "probe.example", "Origin": "null"}).status_code == 200


def test_a_long_origin_is_not_echoed_whole(open_server: Running) -> None:
    answer = open_server.http.post("/drain", headers={"Origin": "https://" + "a" * 20_000})
    assert answer.status_code == 403
    assert len(answer.content) < 600


def preflight(server: Running, origin: str, **more: str) -> httpx.Response:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    return server.http.request("OPTIONS", "/v1/chat/completions", headers={"Origin": origin, **asks, **more})


def test_a_foreign_page_that_asks_first_is_told_no(open_server: Running) -> None:
    answer = preflight(open_server, "https://evil.example")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers
    assert open_server.http.request("OPTIONS", "/v1/models").status_code == 405, "no preflight: a method like another"


UI = "https://chat.example.org"


@pytest.mark.parametrize("keys", [(), ("--api-key", "secret")])
def test_an_allowed_page_can_chat_and_read_the_answer_and_errors(keys: tuple[str, ...]) -> None:
    flags = ("--simulate", "llama-7b", "--speed", "50", "--served-model-name", "m", "--allow-origin", f"{UI},http://a:1")
    auth = {"Authorization": "Bearer secret"} if keys else {}
    page = {"Origin": UI, "Sec-Fetch-Site": "cross-site", **auth}
    with serving_in_process(*flags, *keys) as server:
        asked = preflight(server, UI, **{"Access-Control-Request-Private-Network": "true"})
        told = asked.headers
        assert (asked.status_code, asked.content, told["access-control-allow-origin"]) == (204, b"", UI)
        assert "POST" in told["access-control-allow-methods"]
        assert told["access-control-allow-headers"] == "authorization,content-type"
        assert told["access-control-allow-private-network"] == "true"
        assert told["vary"] == "Origin"
        for body, status in ((CHAT, 200), (CHAT | {"stream": True}, 200), ({"messages": []}, 400)):
            answer = server.http.post("/v1/chat/completions", json=body, headers=page)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, UI)
            assert answer.headers["access-control-expose-headers"] == "*"
        if keys:
            answer = server.http.post("/v1/chat/completions", json=CHAT, headers={"Origin": UI})
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, UI), "the page reads why"
            foreign = {"Origin": "https://evil.example", "Host": "any.example", "Sec-Fetch-Site": "cross-site", **auth}
            answer = server.http.post("/v1/chat/completions", json=CHAT, headers=foreign)
            assert answer.status_code == 200, "with a key, a page may call from anywhere"
            assert "access-control-allow-origin" not in answer.headers
        assert preflight(server, "https://evil.example").status_code == 403
        assert "access-control-allow-origin" not in server.http.get("/v1/models", headers=auth).headers


def test_every_page_and_host_can_be_allowed() -> None:
    with serving_in_process(
        "--simulate", "llama-7b", "--speed", "50", "--allow-origin", "*", "--allow-host", "llm.lan"
    ) as server:
        for headers in ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, {"Origin": UI, "Host": "llm.lan"}):
            answer = server.http.post("/v1/chat/completions", json={**CHAT, "model": None}, headers=headers)
            assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
        assert server.http.get("/v1/models", headers={"Host": "other.lan"}).status_code == 403
