"""What a browser gets: one page, whose scripts are our own, and of other origins' pages no more than was allowed."""

from __future__ import annotations

import pytest

from orcinus.serve.browsers import Browsers
from tests.serve.conftest import Running

KINDS = ("application/json", "text/plain", "text/event-stream")


def test_no_other_route_serves_a_page(server: Running) -> None:
    paths = server.http.get("/openapi.json").json()["paths"]
    policy = server.http.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy
    asked = ["/docs", "/redoc", "/<script>alert(1)</script>", "/v1/models/<b>", "/v1/responses/%3Cscript%3E"]
    asked += [path.replace("{id}", "x").replace("{name}", "x") for path, methods in paths.items() if "get" in methods]
    for path in asked:
        if path != "/v1/scheduler/iterations":  # which never ends
            answer = server.http.get(path)
            assert answer.headers["content-type"].split(";")[0] in KINDS, path


@pytest.mark.parametrize("origin", ["https://chat.example"])
def test_an_allowed_page_may_use_the_methods_of_all_routes(server: Running, origin: str) -> None:
    paths = server.http.get("/openapi.json").json()["paths"]
    used = {method.upper() for methods in paths.values() for method in methods}
    headers = [(b"origin", origin.encode()), (b"host", b"127.0.0.1"), (b"access-control-request-method", b"DELETE")]
    told = Browsers("127.0.0.1", allow_origin=origin).preflight("OPTIONS", headers)
    assert told is not None
    assert used <= set(told["Access-Control-Allow-Methods"].split(", "))
