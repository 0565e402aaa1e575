"""`truncation: "auto"`: the oldest turns are left out until a conversation fits."""

from __future__ import annotations

from orcinus.core.request import RequestContext
from orcinus.serve.errors import ApiError
from orcinus.serve.request_processor import RequestProcessor, sizes
from orcinus.serve.schema import ChatBody

TOO_LONG = "context_length_exceeded"


async def without_oldest_turns(processor: RequestProcessor, body: ChatBody) -> ChatBody:
    """The same chat without as many of its oldest turns as must be left out.

    Instructions stay, and so does the last turn, which begins with a message of the user. Raises `ApiError` if it alone is too
    long. Whether a shorter conversation fits is found by bisection.
    """
    error = await _too_long(processor, body)
    if error is None:
        return body
    first = 1 if body.messages[0].role == "system" else 0
    starts = [index for index, message in enumerate(body.messages) if message.role == "user" and index > first]
    shorter = [body.model_copy(update={"messages": [*body.messages[:first], *body.messages[start:]]}) for start in starts]
    if not shorter or await _too_long(processor, shorter[-1]) is not None:
        raise error
    least, most = 0, len(shorter) - 1  # the first that fits is among them
    while least < most:
        middle = (least + most) // 2
        if await _too_long(processor, shorter[middle]) is None:
            most = middle
        else:
            least = middle + 1
    return shorter[least]


async def _too_long(processor: RequestProcessor, body: ChatBody) -> ApiError | None:
    """Why a conversation does not fit; None if it does."""
    try:
        processor.fewest_tokens(sizes(body), "messages")
        await processor.chat(body, RequestContext())
    except ApiError as error:
        if error.code != TOO_LONG:
            raise
        return error
    return None
