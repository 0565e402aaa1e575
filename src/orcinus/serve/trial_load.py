"""Requests that the server sends itself, to watch a scheduler at work.

A browser has at most six connections to a server: it cannot fill a batch.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from orcinus.core.request import RequestContext
from orcinus.serve.answers import FINISHED
from orcinus.serve.errors import ApiError
from orcinus.serve.schema import CompletionBody, LoadBody, LoadRequest
from orcinus.serve.service import Service
from orcinus.serve.slo_fields import SLO_CODES
from orcinus.text.answer import TextDelta

ANSWERED, REFUSED = "answered", "refused"


async def run_load(service: Service, load: LoadBody, context: RequestContext) -> dict[str, Any]:
    """Send the requests at their times and wait for all answers. Cancelled, it cancels them.

    Returns counts as `LoadOutcome` describes them.
    """
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_answer(service, one, context)) for one in load.requests]
    ends = [task.result() for task in tasks]
    errors = [end for end in ends if end not in (ANSWERED, REFUSED)]
    counts = {"requests": len(ends), "refused": ends.count(REFUSED), "failed": len(errors)}
    return {**counts, "error": errors[0] if errors else None, "seconds": time.monotonic() - began}


async def _answer(service: Service, one: LoadRequest, context: RequestContext) -> str:
    """One answer, greedy and of the length asked for: `ANSWERED`, `REFUSED` for its SLO, or why it failed."""
    await asyncio.sleep(one.at)
    body = CompletionBody(prompt=one.prompt, max_tokens=one.max_tokens, temperature=0.0, ignore_eos=True)
    try:
        call, _ = await service.call("load-", body, context, lambda: service.processor.completion(body, context))
    except ApiError as error:
        return REFUSED if error.code in SLO_CODES else error.message
    try:
        async for news in call.news():
            for delta in news:
                if isinstance(delta, TextDelta) and delta.finish_reason not in (None, *FINISHED):
                    return delta.error or str(delta.finish_reason)
    finally:
        call.close()
    return ANSWERED
