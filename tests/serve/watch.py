"""Looking at a server's iterations while something else happens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.waiting import wait_until


@contextmanager
def watching(url: str) -> Iterator[list[dict[str, Any]]]:
    """Every iteration that ends meanwhile, in a list that grows. `at` is on this machine's monotonic clock.

    An answer may overtake the events of its own iterations, which come over another connection: a last request marks the end.
    """
    seen: list[dict[str, Any]] = []
    ready, done = threading.Event(), threading.Event()

    def watch() -> None:
        with httpx.stream("GET", f"{url}/v1/scheduler/iterations", timeout=30) as answer:
            ready.set()
            kind = ""
            for line in answer.iter_lines():
                if done.is_set():
                    return
                kind = line.removeprefix("event: ") if line.startswith("event: ") else kind if line else ""
                if line.startswith("data: ") and not kind:  # iterations have no name, times of stages have
                    seen.append(json.loads(line[6:]))

    def ran(name: str, event: dict[str, Any]) -> bool:
        return any(chunk["id"] == name for chunk in event["chunks"])

    def request() -> str:
        answer = httpx.post(f"{url}/v1/completions", json={"prompt": "Hi", "max_tokens": 2}, timeout=60)
        return f"{answer.json()['id']}-0"

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    assert ready.wait(10)
    yield seen
    mark = request()
    wait_until(lambda: any(ran(mark, event) for event in tuple(seen)))
    done.set()
    request()  # something to see, and to leave by
    watcher.join(5)
    del seen[next(n for n, event in enumerate(seen) if ran(mark, event)) :]
