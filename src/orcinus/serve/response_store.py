"""Stored responses and their history, in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

MOST_RESPONSES = 1000
MOST_BYTES = 64 * 2**20  # of all holders together
MOST_BYTES_OF_ONE = 8 * 2**20  # as large as a body may be


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response and the whole input that it answers, both as JSON."""

    response: bytes
    history: bytes

    @property
    def size(self) -> int:
        """Bytes of both."""
        return len(self.response) + len(self.history)

    def output(self) -> list[dict[str, Any]]:
        """The items of the output."""
        items: list[dict[str, Any]] = msgspec.json.decode(self.response)["output"]
        return items

    def conversation(self) -> list[dict[str, Any]]:
        """The items of the input and then those of the output."""
        items: list[dict[str, Any]] = msgspec.json.decode(self.history)
        return items + self.output()


class ResponseStore:
    """The last responses of each holder of a key, oldest first.

    When there is no room, the holder with the most bytes loses the oldest ones: no holder can push out what others have stored.
    """

    def __init__(self, most_responses: int = MOST_RESPONSES, most_bytes: int = MOST_BYTES) -> None:
        self.most_responses, self.most_bytes = most_responses, most_bytes
        self.bytes: dict[str, int] = {}  # by holder
        self.count = 0
        self._stored: dict[str, OrderedDict[str, StoredResponse]] = {}
        self._homes: dict[tuple[str, str], str] = {}  # holder and id of an output item -> id of its response

    def add(self, holder: str, response: dict[str, Any], history: Sequence[dict[str, Any]]) -> bool:
        """Store a response; False if it is too large."""
        stored = StoredResponse(msgspec.json.encode(response), msgspec.json.encode(history))
        if stored.size > min(MOST_BYTES_OF_ONE, self.most_bytes):
            return False
        self._stored.setdefault(holder, OrderedDict())[response["id"]] = stored
        self._homes |= {(holder, item["id"]): response["id"] for item in response["output"]}
        self._count(holder, 1, stored.size)
        while self.count > self.most_responses or sum(self.bytes.values()) > self.most_bytes:
            largest = max(self.bytes, key=lambda name: (self.bytes[name], len(self._stored[name])))
            self.remove(largest, next(iter(self._stored[largest])))
        return True

    def find(self, holder: str, id: str) -> StoredResponse | None:  # noqa: A002
        """A response of this holder."""
        return self._stored.get(holder, OrderedDict()).get(id)

    def home(self, holder: str, item: str) -> str | None:
        """The id of the response that has this item in its output."""
        return self._homes.get((holder, item))

    def remove(self, holder: str, id: str) -> bool:  # noqa: A002
        """Forget a response; returns whether there was one."""
        stored = self._stored.get(holder, OrderedDict()).pop(id, None)
        if stored is None:
            return False
        for item in stored.output():
            self._homes.pop((holder, item["id"]), None)
        self._count(holder, -1, -stored.size)
        return True

    def _count(self, holder: str, responses: int, size: int) -> None:
        self.count += responses
        self.bytes[holder] = self.bytes.get(holder, 0) + size
        if not self._stored[holder]:
            del self._stored[holder], self.bytes[holder]
