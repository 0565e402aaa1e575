"""All checks, and functions that run them."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from orcinus.conformance import (  # noqa: F401  (they add their checks)
    auth,
    bad_bodies,
    bad_chats,
    bad_fields,
    clients,
    counts,
    fields,
    hangups,
    logprobs,
    messages,
    neighbours,
    own_endpoints,
    prompts,
    raw,
    request_ids,
    responses,
    routes,
    streaming,
    structured_output,
    tools,
    unsupported,
)
from orcinus.conformance.registry import CHECKS, Check
from orcinus.conformance.target import ServerUnderTest
from orcinus.conformance.verdict import Failed, Skip

# The order in which a reader wants them.
SUBJECTS = (
    *(
        "models",
        "routes",
        "keys",
        "prompts",
        "fields",
        "unsupported",
        "logprobs",
        "echo",
        "usage",
        "streaming",
        "structured output",
        "tools",
        "responses",
        "messages",
        "request ids",
        "clients",
    ),
    *("neighbours", "own", "bodies", "errors", "wire", "hang-ups"),
)
PASS, FAIL, SKIP = "pass", "FAIL", "skip"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of a check."""

    name: str
    outcome: str
    why: str = ""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self) | {"outcome": self.outcome.lower()}


def run(one: Check, target: ServerUnderTest) -> CheckResult:
    """Run a check. A server's behaviour never makes this raise."""
    began = time.monotonic()
    outcome, why = _outcome(one, target)
    return CheckResult(one.name, outcome, why, round(time.monotonic() - began, 3))


def chosen(only: str = "") -> list[Check]:
    """The checks whose names match a regular expression, by subject.

    Raises `re.error` for an invalid expression.
    """
    pattern = re.compile(only)
    found = [one for name, one in CHECKS.items() if pattern.search(name)]
    return sorted(found, key=lambda one: SUBJECTS.index(one.name.partition(":")[0]))


def _outcome(one: Check, target: ServerUnderTest) -> tuple[str, str]:
    try:
        one.run(target)
    except Skip as reason:
        return SKIP, str(reason)
    except Failed as reason:
        return FAIL, str(reason)
    except (httpx.HTTPError, OSError) as error:
        return FAIL, f"the connection failed: {type(error).__name__} {error}".strip()
    except Exception as error:  # answers may have any shape at all
        return FAIL, f"the answer has a wrong shape: {type(error).__name__} {error}"
    return PASS, ""
