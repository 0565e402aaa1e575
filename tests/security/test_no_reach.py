"""A request reaches nothing beyond the model: no address in it is asked, and no file in it is opened."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serve.conftest import Running

URL, FILE = "http://192.0.2.1/picture.png", "file:///etc/hostname"
IMAGE = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": URL}}]
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": IMAGE}]}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": f"{URL} {FILE}"}], "max_tokens": 1}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "model": "../../etc/hostname"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "chat_template": FILE}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": URL}]}]}),
    ("/v1/responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": FILE}]}]}),
    ("/v1/responses", {"input": "Hi", "previous_response_id": "../../etc/hostname"}),
    ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": URL}}]}]}),
    ("/v1/completions", {"prompt": "Hi", "structured_outputs": {"json": {"$ref": URL}}, "max_tokens": 1}),
    ("/v1/completions", {"prompt": "Hi", "structured_outputs": {"grammar": '%import "/etc/hostname"'}, "max_tokens": 1}),
]
heard: list[str] = []
listening: list[bool] = []  # empty: no test of this file runs


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: what this process opens and connects to, for the names that requests have in them."""
    if listening and event in ("open", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
        text = repr(arguments)
        if "192.0.2.1" in text or "etc/hostname" in text:
            heard.append(f"{event} {text[:200]}")


@pytest.fixture(scope="module", autouse=True)
def _listening(server: Running) -> Iterator[None]:
    sys.addaudithook(_hear)  # for the rest of the process: hooks cannot be removed
    listening.append(True)
    yield
    listening.clear()


@pytest.mark.parametrize(("path", "body"), ASKED, ids=range(len(ASKED)))
def test_the_server_fetches_no_url_and_opens_no_file_for_a_request(server: Running, path: str, body: dict[str, Any]) -> None:
    heard.clear()
    answer = server.http.post(path, json=body)
    assert answer.status_code in (200, 400, 404)
    assert "root:" not in answer.text
    assert heard == []


def test_that_would_be_heard() -> None:
    heard.clear()
    with pytest.raises(OSError), open("/nowhere/etc/hostname"):
        pass
    assert len(heard) == 1
    heard.clear()
