"""The conversation of a request, from its items and stored responses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from orcinus.core.request import RequestContext
from orcinus.serve.dialects.responses_items import InputItem, ItemReference
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.request_processor import RequestProcessor, sizes
from orcinus.serve.response_store import ResponseStore, StoredResponse
from orcinus.serve.schema import ChatBody

ITEM: TypeAdapter[InputItem] = TypeAdapter(InputItem)
TOO_LONG = "context_length_exceeded"
GONE = "it is not stored here (any more); send its item itself, with store: false"


@dataclass(frozen=True, slots=True)
class PlacedItem:
    """An item of the conversation and its place in the request."""

    place: str  # input[2]
    item: InputItem

    def to_json(self) -> dict[str, Any]:
        """The item as it is stored."""
        return self.item.model_dump(exclude_none=True)


def read_items(body: ResponsesBody, store: ResponseStore, holder: str) -> list[PlacedItem]:
    """All items that a request is about.

    Raises `ApiError` 404 for an unknown `previous_response_id`, 400 for an unknown item.
    """
    found: list[PlacedItem] = []
    if body.previous_response_id is not None:
        previous = store.find(holder, body.previous_response_id)
        if previous is None:
            message = "previous_response_id: there is no such response, or it is not stored any more; send the whole input"
            raise ApiError(404, message, param="previous_response_id", code="previous_response_not_found")
        found += [PlacedItem("previous_response_id", ITEM.validate_python(one)) for one in previous.conversation()]
    if isinstance(body.input, str):
        text = {"type": "message", "role": "user", "content": body.input}
        return [*found, PlacedItem("input", ITEM.validate_python(text))] if body.input else found
    outputs: dict[str, dict[str, Any]] = {}  # response id -> its items by id
    for index, item in enumerate(body.input or ()):
        place = f"input[{index}]"
        if isinstance(item, ItemReference):
            item = ITEM.validate_python(_referenced(item.id, place, store, holder, outputs))
        found.append(PlacedItem(place, item))
    return found


def _referenced(item: str, place: str, store: ResponseStore, holder: str, outputs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The stored item of a reference. Raises `ApiError` 400.

    `outputs` keeps those decoded already.
    """
    home = store.home(holder, item)
    stored: StoredResponse | None = None if home is None else store.find(holder, home)
    if home is None or stored is None:
        raise invalid(f"{place}.id", f"{place}.id: {GONE}")
    if home not in outputs:
        outputs[home] = {one["id"]: one for one in stored.output()}
    found: dict[str, Any] = outputs[home][item]
    return found


async def without_oldest_turns(processor: RequestProcessor, body: ChatBody) -> ChatBody:
    """The chat without its oldest turns: as many as do not fit.

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
