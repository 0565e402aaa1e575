"""The tools of a chat: their definitions, and what runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orcinus.cli.demo_tools import DEMO_TOOLS, Run
from orcinus.errors import ConfigError, RequestError
from orcinus.text.tools.tool_chat import ToolInvocation, tools_from

DEMO = "demo"


@dataclass(frozen=True)
class ChatTools:
    """Definitions in OpenAI's form, and what runs the tools that are built in."""

    definitions: list[dict[str, Any]] = field(default_factory=list)
    built_in: Mapping[str, Run] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [definition["function"]["name"] for definition in self.definitions]

    def run(self, call: ToolInvocation) -> str | None:
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
    try:
        tools_from(definitions)
    except RequestError as error:
        raise ConfigError(f"--tools: {error}") from None
    return ChatTools(definitions, built_in)


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
    return listed
