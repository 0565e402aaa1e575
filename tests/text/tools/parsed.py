"""Answers parsed, whole or in pieces, and tools for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from orcinus.text.tools.tool_call import Tool, ToolForm

WEATHER = Tool(
    "get_weather",
    "Weather of a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "wind": {"type": "boolean"},
            "places": {"type": "array", "items": {"type": "string"}},
            "options": {},
        },
        "required": ["city"],
    },
)
NOW = Tool("now", "The time.")
TOOLS = (WEATHER, NOW)


@dataclass
class Parsed:
    """The text beside calls, and name and arguments of each call."""

    content: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list, compare=False)


def parse(form: ToolForm, pieces: Iterable[str], tools: Sequence[Tool] = TOOLS) -> Parsed:
    """An answer that arrives in these pieces."""
    parser, found = form.parser(tools), Parsed()
    for content, deltas in [*map(parser.add, pieces), parser.finish()]:
        found.content += content
        for delta in deltas:
            if delta.index == len(found.calls):
                assert delta.id is not None
                assert delta.name is not None
                found.calls.append((delta.name, ""))
                found.ids.append(delta.id)
            else:
                assert (delta.index, delta.id, delta.name) == (len(found.calls) - 1, None, None)
            name, arguments = found.calls[-1]
            found.calls[-1] = name, arguments + delta.arguments
    return found


def cuts(text: str) -> Iterable[list[str]]:
    """The text cut once at every place, and into single characters."""
    yield list(text)
    for place in range(len(text) + 1):
        yield [text[:place], text[place:]]
