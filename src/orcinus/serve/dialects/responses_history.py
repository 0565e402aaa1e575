"""The items of a request: its own, and those of stored responses that it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from orcinus.serve.dialects.responses_items import InputItem, ItemReference
from orcinus.serve.dialects.responses_schema import ResponsesBody
from orcinus.serve.errors import ApiError, invalid
from orcinus.serve.response_store import ResponseStore, StoredResponse

ITEM: TypeAdapter[InputItem] = TypeAdapter(InputItem)
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
    """The stored item of a reference; `outputs` keeps those decoded already. Raises `ApiError` 400."""
    home = store.home(holder, item)
    stored: StoredResponse | None = None if home is None else store.find(holder, home)
    if home is None or stored is None:
        raise invalid(f"{place}.id", f"{place}.id: {GONE}")
    if home not in outputs:
        outputs[home] = {one["id"]: one for one in stored.output()}
    found: dict[str, Any] = outputs[home][item]
    return found
