"""How a client's script reports: a line per check with its feature, and a status that is not 0 if one failed.

The scripts run in environments of their own, where Orcinus is not installed; what they need to know is in the environment.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable
from typing import TypeVar

URL = os.environ.get("ORCINUS_URL", "http://127.0.0.1:8000")
NARROW_URL = os.environ.get("ORCINUS_NARROW_URL", "")  # a server whose queue is full with two answers
KEYED_URL = os.environ.get("ORCINUS_KEYED_URL", "")  # a server with the API key `secret`
CALLING_URL = os.environ.get("ORCINUS_CALLING_URL", "")  # the server behind a proxy that asks for calls (`forced_calls`)
MODEL = os.environ.get("ORCINUS_MODEL", "orcinus-tiny")
MODEL_DIR = os.environ.get("ORCINUS_MODEL_DIR", "")
BASE = f"{URL}/v1"
FEATURES = ("chat", "stream", "tools", "json schema", "json object", "responses", "messages")

Failure = TypeVar("Failure", bound=Exception)
failures = 0


def check(name: str, feature: str = "") -> Callable[[Callable[[], object]], Callable[[], object]]:
    """A decorator that runs a function at once and prints what came of it.

    `feature` is the column of the table in docs/clients.md; checks without one count for no column.
    """
    if feature and feature not in FEATURES:
        raise ValueError(f"no such feature: {feature}; there are {', '.join(FEATURES)}")
    name = f"[{feature}] {name}" if feature else name

    def run(body: Callable[[], object]) -> Callable[[], object]:
        global failures
        try:
            body()
        except Exception as error:
            failures += 1
            print(f"FAIL  {name}: {type(error).__name__} {' '.join(str(error).split())[:300]}", flush=True)
        else:
            print(f"pass  {name}", flush=True)
        return body

    return run


def brace_bias() -> dict[str, int]:
    """The `logit_bias` with which an answer in JSON is `{}`: left alone, the bundled model may never close an object."""
    bias = {}
    for brace in "{}":
        body = json.dumps({"prompt": brace, "add_special_tokens": False}).encode()
        request = urllib.request.Request(f"{URL}/tokenize", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            (token,) = json.load(response)["tokens"]
        bias[str(token)] = 100
    return bias


def raised(kind: type[Failure], call: Callable[[], object]) -> Failure:
    """The error of this kind that a call raises. Raises `AssertionError` if it raises none."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}")


def leave() -> None:
    """End the script with its status."""
    sys.exit(1 if failures else 0)
