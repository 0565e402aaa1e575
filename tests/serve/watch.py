"""Looking at a server's iterations while something else happens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx


@contextmanager
def watching(url: str) -> Iterator[list[dict[str, Any]]]:
    """Every iteration that ends meanwhile, in a list that grows. `at` is on this machine's monotonic clock."""
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

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    assert ready.wait(10)
    yield seen
    done.set()
    httpx.post(f"{url}/v1/completions", json={"prompt": "Hi", "max_tokens": 2})  # something to see, and to leave by
    watcher.join(5)
