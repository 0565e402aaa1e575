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
from orcinus.text.answer import TextDelta


async def run_load(service: Service, load: LoadBody, context: RequestContext) -> dict[str, Any]:
    """Send the requests at their times and wait for all answers. Cancelled, it cancels them.

    Returns counts as `LoadOutcome` describes them.
    """
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_answer(service, one, context)) for one in load.requests]
    errors = [error for task in tasks if (error := task.result()) is not None]
    first = errors[0] if errors else None
    return {"requests": len(tasks), "failed": len(errors), "error": first, "seconds": time.monotonic() - began}


async def _answer(service: Service, one: LoadRequest, context: RequestContext) -> str | None:
    """One answer, greedy and of the length asked for; why it failed, or None."""
    await asyncio.sleep(one.at)
    body = CompletionBody(prompt=one.prompt, max_tokens=one.max_tokens, temperature=0.0, ignore_eos=True)
    try:
        call, _ = await service.call("load-", body, context, lambda: service.processor.completion(body, context))
    except ApiError as error:
        return error.message
    try:
        async for news in call.news():
            for delta in news:
                if isinstance(delta, TextDelta) and delta.finish_reason not in (None, *FINISHED):
                    return delta.error or str(delta.finish_reason)
    finally:
        call.close()
    return None
