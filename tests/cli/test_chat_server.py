"""`orcinus chat --url` with servers that do not answer: one line that says what to do."""

from __future__ import annotations

from tests.commands import orcinus
from tests.conformance.wrong_server import answering, whole


def test_a_server_that_wants_a_key() -> None:
    with answering(lambda _, path, __: (200, whole(path)), key="secret") as url:
        done = orcinus("chat", "--url", url, stdin="hello\n")
    assert done.returncode == 1
    assert "the server does not accept this key, or wants one: give --api-key, or set ORCINUS_API_KEY" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_address_without_a_scheme() -> None:
    done = orcinus("chat", "--url", "localhost:8000", stdin="hello\n")
    assert done.returncode == 1
    assert "'localhost:8000' is no URL of a server: give one like http://127.0.0.1:8000" in done.stderr
    assert len(done.stderr.splitlines()) == 1
