"""The tools of a chat: their definitions, and what runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orcinus.cli.demo_tools import DEMO_TOOLS, Run
from orcinus.errors import ConfigError, shown
from orcinus.text.tools.tool_call import ToolCallDelta

DEMO = "demo"


@dataclass
class ToolCall:
    """A call, joined from its deltas."""

    id: str = ""
    name: str = ""
    arguments: str = ""  # JSON, unless the model broke the form

    @property
    def message(self) -> dict[str, Any]:
        """Its place in an assistant's message."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def joined(deltas: Sequence[ToolCallDelta]) -> list[ToolCall]:
    """The calls that deltas are pieces of, in order."""
    calls: dict[int, ToolCall] = {}
    for delta in deltas:
        call = calls.setdefault(delta.index, ToolCall())
        call.id, call.name = delta.id or call.id, delta.name or call.name
        call.arguments += delta.arguments
    return [calls[index] for index in sorted(calls)]


@dataclass(frozen=True)
class ChatTools:
    """Definitions in OpenAI's form, and what runs the tools that are built in."""

    definitions: list[dict[str, Any]] = field(default_factory=list)
    built_in: Mapping[str, Run] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [definition["function"]["name"] for definition in self.definitions]

    def run(self, call: ToolCall) -> str | None:
        """The result of a built-in tool, or its error; None of another."""
        if (run := self.built_in.get(call.name)) is None:
            return None
        try:
            arguments = json.loads(call.arguments or "{}")
            if not isinstance(arguments, dict):
                raise ValueError("the arguments must be a JSON object")
            return run(arguments)
        except (ValueError, RecursionError) as error:
            return f"error: {error}"


def load_tools(sources: Sequence[str]) -> ChatTools:
    """The tools of several files; `demo` stands for those built in. Raises `ConfigError`."""
    definitions: list[dict[str, Any]] = []
    built_in: dict[str, Run] = {}
    for source in sources:
        if source == DEMO:
            definitions += [definition for definition, _ in DEMO_TOOLS]
            built_in |= {definition["function"]["name"]: run for definition, run in DEMO_TOOLS}
        else:
            definitions += _read(Path(source))
    tools = ChatTools(definitions, built_in)
    if twice := sorted({name for name in tools.names if tools.names.count(name) > 1}):
        raise ConfigError(f"--tools defines {shown(twice[0])} twice: leave one of them out")
    return tools


def _read(file: Path) -> list[dict[str, Any]]:
    """The definitions in a file: a list, or an object whose `tools` is one. Raises `ConfigError`."""
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read tools from {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}") from None
    listed = found.get("tools") if isinstance(found, dict) else found
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{file} must hold a list of tools, as a request to the OpenAI API has")
    for index, one in enumerate(listed):
        if not _is_function(one):
            form = '{"type": "function", "function": {"name": …, "parameters": {…}}}'
            raise ConfigError(f"tool {index + 1} in {file} is not of the form {form}")
    return listed


def _is_function(one: Any) -> bool:
    function = one.get("function") if isinstance(one, dict) and one.get("type") == "function" else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)
