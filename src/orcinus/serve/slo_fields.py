"""A request's SLO: from its body, and from headers that gateways set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import ConfigDict, Field

from orcinus.core.promises import PromiseVerdict
from orcinus.core.slo import SLO
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.field_types import Number
from orcinus.serve.object_schema import Object

MOST_S = 86_400
SLO_CODES = ("slo_not_kept", "slo_never_kept")  # of refusals
NEVER_S = 3600  # when to come again with an SLO that cannot be kept at all
Bound = Annotated[Number, Field(gt=0, le=MOST_S)]
HEADERS = {  # name -> metric, and seconds of its unit
    **{f"x-slo-{metric}": (metric, 1.0) for metric in ("ttft", "tbt", "tpot", "e2e")},
    **{f"x-slo-{metric}-ms": (metric, 1e-3) for metric in ("ttft", "tbt", "tpot", "e2e")},
    "x-request-deadline": ("e2e", 1.0),
}


class SLOBody(Object):
    """Upper bounds in seconds on the latencies of this request."""

    model_config = ConfigDict(extra="forbid")
    ttft: Annotated[Bound | None, Field(description="Time to the first token.")] = None
    tbt: Annotated[Bound | None, Field(description="Time between two tokens; 1 % of them may take longer.")] = None
    tpot: Annotated[Bound | None, Field(description="Time per output token, on average.")] = None
    e2e: Annotated[Bound | None, Field(description="Time to the end of the answer.")] = None


def wanted_slo(body: SLOBody | None, headers: Mapping[str, str]) -> SLO | None:
    """The SLO of a request; of two bounds on one latency the lower counts.

    Raises `ApiError` 400.
    """
    bounds = {} if body is None else {name: value for name, value in body.model_dump().items() if value is not None}
    if body is not None and not bounds:
        raise invalid("slo", "slo: bound at least one of ttft, tbt, tpot and e2e, in seconds")
    for name, (metric, unit) in HEADERS.items():
        if (text := headers.get(name)) is not None:
            bounds[metric] = min(bounds.get(metric, math.inf), _number(name, text) * unit)
    return SLO(bounds) if bounds else None


def _number(header: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    most = MOST_S / HEADERS[header][1]
    if not 0 < found <= most:
        raise invalid(header, f"the header {header} must be a number above 0 and at most {most:g}")
    return found


def refusal(slo: SLO, verdict: PromiseVerdict) -> ApiError:
    """Error 429 for a request whose SLO cannot be kept now, or ever."""
    misses = (
        [miss.describe(lambda number: f"{number:.3g}") for miss in slo.missed(verdict.predicted)] if verdict.predicted else []
    )
    predicted = f": it is predicted that {'; '.join(misses)}" if misses else ""
    seconds = NEVER_S if verdict.never else verdict.retry_after
    headers = {"Retry-After": str(seconds), "retry-after-ms": str(1000 * seconds)}
    if verdict.never:
        headers["x-should-retry"] = "false"  # as clients of OpenAI's and Anthropic's APIs understand it
        message = f"this SLO cannot be kept even with an idle engine{predicted}; ask for more time, or for less"
    else:
        why = f"the SLO cannot be kept now{predicted}" if misses else "the queue is full, or its room is held for others"
        message = f"{why}; try again in {seconds} s"
    found = {name: value for name, value in verdict.predicted.items() if math.isfinite(value)}
    facts = {"retry_after_ms": 1000 * seconds, "predicted": found or None}
    return ApiError(429, message, param="slo", code=SLO_CODES[verdict.never], headers=headers, facts=facts)
