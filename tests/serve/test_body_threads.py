"""Large bodies are parsed and checked in threads, so that the event loop is free meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from orcinus.serve import body
from orcinus.serve.body import AT_ONCE
from tests.serve.test_messages_errors import CHAT, COUNT, MESSAGES, draining, send

RESPONSES, COMPLETIONS = "/v1/responses", "/v1/completions"


def turns(count: int) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "Hi", "wibble": 1}]}] * count


LARGE: dict[str, dict[str, Any]] = {
    MESSAGES: {"max_tokens": 5, "messages": turns(2000)},
    COUNT: {"messages": turns(2000)},
    CHAT: {"messages": turns(2000)},
    RESPONSES: {"input": [{"type": "message", **turn} for turn in turns(2000)]},
    COMPLETIONS: {"prompt": "Hi " * AT_ONCE, "wibble": 1},
}
SMALL: dict[str, dict[str, Any]] = {
    MESSAGES: {"max_tokens": 5, "messages": turns(2)},
    COUNT: {"messages": turns(2)},
    CHAT: {"messages": turns(2)},
    RESPONSES: {"input": [{"type": "message", **turn} for turn in turns(2)]},
    COMPLETIONS: {"prompt": "Hi", "wibble": 1},
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What was run, and whether on the thread of the event loop."""
    found: list[tuple[str, bool]] = []

    def watched(name: str) -> None:
        call = getattr(body, name)

        def watch(*arguments: Any, **options: Any) -> Any:
            found.append((name, threading.current_thread() is threading.main_thread()))
            return call(*arguments, **options)

        monkeypatch.setattr(body, name, watch)

    watched("parse")
    watched("check_fields")
    return found


@pytest.mark.parametrize("path", LARGE)
def test_a_large_body_is_checked_in_a_thread(path: str, ran: list[tuple[str, bool]]) -> None:
    answer = send(draining(), "POST", path, json=LARGE[path])
    assert ran == [("parse", False), ("check_fields", False)]
    assert "wibble" in answer.headers["x-ignored-fields"], "what it found is told all the same"


@pytest.mark.parametrize("path", SMALL)
def test_a_small_one_is_checked_at_once(path: str, ran: list[tuple[str, bool]]) -> None:
    """A thread would cost more than the check."""
    answer = send(draining(), "POST", path, json=SMALL[path])
    assert ran == [("parse", True), ("check_fields", True)]
    assert "wibble" in answer.headers["x-ignored-fields"]


def test_a_refused_field_of_a_large_body_is_named(ran: list[tuple[str, bool]]) -> None:
    answer = send(draining(), "POST", MESSAGES, json=LARGE[MESSAGES] | {"n": 2})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("n: not supported")
    assert ran == [("parse", False), ("check_fields", False)]
