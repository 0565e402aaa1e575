"""Calls and their results in the history of a chat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from orcinus.errors import shown
from orcinus.serve.conversation_schema import Message
from orcinus.serve.errors import invalid
from orcinus.serve.validation import enumerated


def check_results(messages: Sequence[Message], *, continued: bool = False) -> None:
    """Raise `ApiError` 400 unless every call has a result right behind it, and every result a call, as OpenAI's API does.

    Calls and results without ids belong together in their order. The calls of a last message that is `continued` need none.
    """
    calls = OpenCalls()
    for index, message in enumerate(messages):
        if message.role == "tool":
            calls.take(message.tool_call_id, f"messages[{index}]")
        else:
            calls.check()
            calls = OpenCalls(f"messages[{index}]", Counter(call.id for call in message.tool_calls or ()))
    if not continued or calls.begun:
        calls.check()


@dataclass
class OpenCalls:
    """The calls of one message of the assistant that have no result yet."""

    place: str = ""
    left: Counter[str | None] = field(default_factory=Counter)  # by id; None: of calls that were sent without one
    begun: bool = False  # whether there was a result

    def take(self, call_id: str | None, place: str) -> None:
        """Add a result. Raises `ApiError` 400 if it has no call."""
        self.begun = True
        known = call_id in self.left or None in self.left or (call_id is None and self.left)
        if not known:
            where = f"{place}.tool_call_id"
            told = "this result" if call_id is None else shown(call_id)
            raise invalid(where, f"{where}: the assistant's message before it has no call for {told}; send the call, too")
        answered = call_id if call_id in self.left else None if None in self.left else next(iter(self.left))
        self.left[answered] -= 1
        if not self.left[answered]:  # a difference of counters would copy what is left, for every result
            del self.left[answered]

    def check(self) -> None:
        """Raise `ApiError` 400 for calls without a result."""
        if self.left:
            names = enumerated([shown(call_id or "(no id)") for call_id in self.left])
            where = f"{self.place}.tool_calls"
            raise invalid(where, f"{where}: no result follows for {names}; send a message of the role tool for each call")
