"""Tools of `POST /v1/responses` as functions of a chat, and back."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from orcinus.serve.dialects.responses_schema import (
    AllowedTools,
    CallableSpec,
    Choice,
    CustomSpec,
    HostedSpec,
    NamespaceSpec,
    ToolName,
    ToolSpec,
)
from orcinus.serve.errors import invalid

LONGEST_NAME = 128  # characters, as in `FUNCTION_NAME`
INPUT = "input"  # the only argument of the function that stands for a custom tool
CUSTOM_PARAMETERS = {
    "type": "object",
    "properties": {INPUT: {"type": "string"}},
    "required": [INPUT],
    "additionalProperties": False,
}
OPENING = re.compile(r'\s*\{\s*"' + INPUT + r'"\s*:\s*"')
# Whole characters of a JSON string: an escape or a surrogate pair that is not complete is left for later.
CHARACTERS = re.compile(
    r'(?:[^"\\]|\\["\\/bfnrt]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})*'
)


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
    """The functions that stand for a request's tools."""

    functions: list[dict[str, Any]] = field(default_factory=list)  # as in a chat's `tools`
    places: list[str] = field(default_factory=list)  # of each function: `tools[1].tools[0]`
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
        self.functions.append({"type": "function", "function": {"name": name, **_function(spec, about)}})
        self.places.append(place)

    def find(self, name: str) -> OwnTool:
        """The tool that a function stands for."""
        return self.own.get(name) or OwnTool("function", name)

    def choose(self, choice: Choice | None) -> Any:
        """The `tool_choice` of the chat. Raises `ApiError` for an unknown tool.

        Tools that are not among `allowed_tools` are left out.
        """
        if isinstance(choice, ToolName):
            return {"type": "function", "function": {"name": self._named(choice, "tool_choice")}}
        if isinstance(choice, AllowedTools):
            kept = {self._named(one, f"tool_choice.tools[{index}]") for index, one in enumerate(choice.tools)}
            chosen = [place for place, one in enumerate(self.functions) if one["function"]["name"] in kept]
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
        for index, place in enumerate(self.places):
            yield f"tools[{index}]", place
            yield f"tools[{index}].function", place


def read_tools(specs: list[ToolSpec] | None) -> Tools:
    """The tools of a request. Raises `ApiError`."""
    tools = Tools()
    for index, spec in enumerate(specs or ()):
        tools.add(spec, f"tools[{index}]")
    return tools


def _function(spec: CallableSpec, about: str | None) -> dict[str, Any]:
    """Description, parameters and strictness of the function that stands for a tool."""
    texts = [about, spec.description]
    if isinstance(spec, CustomSpec):
        if spec.format is not None and spec.format.definition:
            texts.append(f"The input follows this {spec.format.syntax or 'lark'} grammar:\n{spec.format.definition}")
        found: dict[str, Any] = {"parameters": CUSTOM_PARAMETERS, "strict": True}
    else:
        found = {"parameters": spec.parameters, "strict": spec.strict}
    text = "\n\n".join(text for text in texts if text)
    return {name: value for name, value in ({"description": text or None} | found).items() if value is not None}


def custom_arguments(text: str) -> str:
    """The arguments of the function that stands for a custom tool."""
    return json.dumps({INPUT: text}, ensure_ascii=False)


@dataclass
class CustomInput:
    """The input of a custom tool, decoded while its arguments arrive."""

    arguments: str = ""
    text: str = ""
    _at: int | None = None  # where the next character begins; None before the opening quote

    def add(self, arguments: str) -> str:
        """Further input; "" while a character is incomplete."""
        self.arguments += arguments
        if self._at is None:
            opening = OPENING.match(self.arguments)
            if opening is None:
                return ""
            self._at = opening.end()
        found = CHARACTERS.match(self.arguments, self._at)
        assert found is not None
        self._at = found.end()
        new: str = json.loads(f'"{found[0]}"', strict=False)
        self.text += new
        return new

    def finish(self) -> str:
        """The rest of the input; arguments of another form are taken whole."""
        if self._at is not None:
            return ""
        try:
            found = json.loads(self.arguments)[INPUT]
        except (ValueError, LookupError, TypeError):
            found = None
        self.text = found if isinstance(found, str) else self.arguments
        return self.text
