"""Tools of `POST /v1/responses` as tools of a chat, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orcinus.serve.custom_tools import NOT_ENFORCED
from orcinus.serve.dialects.responses_schema import (
    AllowedTools,
    CallableSpec,
    Choice,
    CustomSpec,
    GrammarFormat,
    HostedSpec,
    NamespaceSpec,
    ToolName,
    ToolSpec,
)
from orcinus.serve.errors import invalid

LONGEST_NAME = 128  # characters, as in `FUNCTION_NAME`


@dataclass(frozen=True, slots=True)
class OwnTool:
    """A tool under the client's own name."""

    kind: str  # "function" or "custom"
    name: str
    namespace: str | None = None

    @property
    def fields(self) -> dict[str, str]:
        """Its name in an item of the output."""
        return {"name": self.name} | ({} if self.namespace is None else {"namespace": self.namespace})


def flat_name(name: str, namespace: str | None) -> str:
    """The unique name of a chat's function, at most `LONGEST_NAME` characters."""
    if namespace is None:
        return name
    joined = f"{namespace.rstrip('_')}__{name}"
    if len(joined) <= LONGEST_NAME:
        return joined
    digest = hashlib.sha256(f"{namespace}\0{name}".encode()).hexdigest()[:8]
    return f"{joined[: LONGEST_NAME - 9]}_{digest}"


@dataclass
class Tools:
    """A request's tools as those of a chat."""

    functions: list[dict[str, Any]] = field(default_factory=list)  # a chat's `tools`
    places: list[str] = field(default_factory=list)  # of each of them: `tools[1].tools[0]`
    in_use: list[dict[str, Any]] = field(default_factory=list)  # the request's tools without those left out
    warnings: list[str] = field(default_factory=list)
    own: dict[str, OwnTool] = field(default_factory=dict)  # by the function's name

    def add(self, spec: ToolSpec, place: str) -> None:
        """Add a tool. Raises `ApiError` for a name used before."""
        if isinstance(spec, HostedSpec):
            self.warnings.append(f"{place}: this server has no {spec.type[:64]}; the model was not told of it")
            return
        self.in_use.append(spec.model_dump(exclude_none=True))
        if not isinstance(spec, NamespaceSpec):
            self._add(spec, None, place, None)
            return
        about = spec.description  # stands before that of its first tool
        for index, inner in enumerate(spec.tools):
            self._add(inner, spec.name, f"{place}.tools[{index}]", about if index == 0 else None)

    def _add(self, spec: CallableSpec, namespace: str | None, place: str, about: str | None) -> None:
        name = flat_name(spec.name, namespace)
        if name in self.own:
            raise invalid(f"{place}.name", f"{place}.name: there is another tool of this name")
        self.own[name] = OwnTool(spec.type, spec.name, namespace)
        self.functions.append(_chat_tool(spec, name, about))
        self.places.append(place)
        if isinstance(spec, CustomSpec) and isinstance(spec.format, GrammarFormat) and spec.format.syntax == "lark":
            self.warnings.append(f"{place}.format: {NOT_ENFORCED}")

    def find(self, name: str) -> OwnTool:
        """The tool that a function stands for."""
        return self.own.get(name) or OwnTool("function", name)

    def choose(self, choice: Choice | None) -> Any:
        """The `tool_choice` of the chat. Raises `ApiError` for an unknown tool.

        Tools that are not among `allowed_tools` are left out.
        """
        if isinstance(choice, ToolName):
            return {"type": choice.type, choice.type: {"name": self._named(choice, "tool_choice")}}
        if isinstance(choice, AllowedTools):
            kept = {self._named(one, f"tool_choice.tools[{index}]") for index, one in enumerate(choice.tools)}
            chosen = [place for place, name in enumerate(self.own) if name in kept]
            self.functions = [self.functions[place] for place in chosen]
            self.places = [self.places[place] for place in chosen]
            return choice.mode
        return choice

    def _named(self, wanted: ToolName, place: str) -> str:
        for name, own in self.own.items():
            if own.name == wanted.name and wanted.namespace in (None, own.namespace) and own.kind == wanted.type:
                return name
        raise invalid(f"{place}.name", f"{place}.name: there is no such tool in tools")

    def names(self) -> Iterator[tuple[str, str]]:
        """Fields of the chat's functions and the client's own."""
        for index, (place, tool) in enumerate(zip(self.places, self.functions, strict=True)):
            yield f"tools[{index}]", place
            yield f"tools[{index}].function", place
            if tool["type"] == "custom":
                yield f"tools[{index}].function.parameters", f"{place}.format.definition"
                yield f"tools[{index}].custom", place
                yield f"tools[{index}].custom.format.grammar", f"{place}.format"


def read_tools(specs: list[ToolSpec] | None) -> Tools:
    """The tools of a request. Raises `ApiError`."""
    tools = Tools()
    for index, spec in enumerate(specs or ()):
        tools.add(spec, f"tools[{index}]")
    return tools


def _chat_tool(spec: CallableSpec, name: str, about: str | None) -> dict[str, Any]:
    """A tool as a chat has it, under a unique name."""
    text = "\n\n".join(text for text in (about, spec.description) if text)
    found: dict[str, Any] = {"name": name, "description": text or None}
    if isinstance(spec, CustomSpec):
        form = spec.format
        if isinstance(form, GrammarFormat):
            grammar = {"syntax": form.syntax, "definition": form.definition}
            found["format"] = {"type": "grammar", "grammar": grammar}
    else:
        found |= {"parameters": spec.parameters, "strict": spec.strict}
    return {"type": spec.type, spec.type: {name: value for name, value in found.items() if value is not None}}
