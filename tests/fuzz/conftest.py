"""A simulated server that loses patience after a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from orcinus.serve import body_reader, http_limits, server
from tests.serve.conftest import Running
from tests.serve.in_process import serving_in_process

PATIENCE_S = 0.25


@pytest.fixture(scope="package")
def hasty() -> Iterator[Running]:
    """A server in threads, with real sockets; afterwards it is idle, and nothing of any request is left."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name in (
            (http_limits, "HEADERS_WITHIN_S"),
            (http_limits, "LINGER_S"),
            (body_reader, "SILENCE_S"),
            (server, "IDLE_CONNECTION_S"),
        ):
            patch.setattr(module, name, PATIENCE_S)
        with serving_in_process("--simulate", "llama-7b", "--speed", "200", "--keep-alive", "1") as running:
            yield running
            assert running.idle()
            assert running.scheduler()["queue"] == {"answers": 0, "tokens": 0}
            assert chats(running)


def chats(running: Running) -> bool:
    """Whether a usual request is answered."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    return running.http.post("/v1/chat/completions", json=body).status_code == 200
