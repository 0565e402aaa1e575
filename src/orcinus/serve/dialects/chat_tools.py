"""Tools of `POST /v1/chat/completions`: allowed ones, and calls of custom ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from orcinus.serve.answers import ChoiceDelta
from orcinus.serve.custom_tools import NOT_ENFORCED, CustomInput
from orcinus.serve.dialects.field_names import FieldNames
from orcinus.serve.schema import ChatBody
from orcinus.serve.tool_fields import choice_of
from orcinus.serve.tool_schema import AllowedToolsChoice, CustomTool, NamedCustomChoice
from orcinus.text.tools.tool_call import ToolCallDelta, join_deltas


def with_allowed_tools(body: ChatBody) -> tuple[ChatBody, FieldNames]:
    """The body with the tools that the model is told of, and its names of their fields.

    Raises `ApiError` 400 for a choice among unknown tools.
    """
    kept = list(enumerate(body.tools or ()))
    allowed = body.tool_choice
    if isinstance(allowed, AllowedToolsChoice):
        choice_of(body)
        chosen = {
            (one.type, one.custom.name if isinstance(one, NamedCustomChoice) else one.function.name)
            for one in allowed.allowed_tools.tools
        }
        kept = [(index, tool) for index, tool in kept if (tool.type, tool.function.name) in chosen]
        changed = {"tools": [tool for _, tool in kept], "tool_choice": allowed.allowed_tools.mode}
        body = body.model_copy(update=changed)
    names = FieldNames({} if body.max_completion_tokens is None else {"max_tokens": "max_completion_tokens"})
    for index, (place, tool) in enumerate(kept):
        if place != index:
            names.add({f"tools[{index}]": f"tools[{place}]"})
        if isinstance(tool, CustomTool):
            own = f"tools[{place}].custom"
            names.add(
                {f"tools[{index}].function": own, f"tools[{index}].function.parameters": f"{own}.format.grammar.definition"}
            )
    return body, names


def warnings_of(body: ChatBody, names: FieldNames) -> list[str]:
    """What of a body's tools is not enforced."""
    return [
        f"{names.find(f'tools[{index}].function.parameters')}: {NOT_ENFORCED}"
        for index, tool in enumerate(body.tools or ())
        if isinstance(tool, CustomTool) and tool.grammar is not None and tool.grammar.syntax == "lark"
    ]


@dataclass
class ChatCalls:
    """Calls in OpenAI's form; those of custom tools have their input as text."""

    custom: frozenset[str] = frozenset()  # names of custom tools
    _inputs: dict[tuple[int, int], CustomInput] = field(default_factory=dict)  # of custom calls, by choice and call

    @classmethod
    def of(cls, body: ChatBody) -> ChatCalls:
        """The calls of the answers to a body."""
        return cls(frozenset(tool.function.name for tool in body.tools or () if isinstance(tool, CustomTool)))

    def decoded(self, delta: ChoiceDelta) -> ChoiceDelta:
        """A delta of a stream, with inputs of custom tools instead of arguments."""
        if not self.custom:
            return delta
        calls = [fresh for call in delta.tool_calls for fresh in self._decoded(delta.place, call)]
        if delta.finish_reason:
            left = ((index, one.finish()) for (place, index), one in self._inputs.items() if place == delta.place)
            calls += [ToolCallDelta(index, arguments=text) for index, text in left if text]
        return replace(delta, tool_calls=calls)

    def _decoded(self, place: int, call: ToolCallDelta) -> list[ToolCallDelta]:
        """What is new of a call; nothing while a character is incomplete."""
        if call.name in self.custom:
            self._inputs[place, call.index] = CustomInput()
        if (custom := self._inputs.get((place, call.index))) is None:
            return [call]
        fresh = replace(call, arguments=custom.add(call.arguments))
        return [fresh] if fresh.name is not None or fresh.arguments else []

    def parts(self, delta: ChoiceDelta) -> list[dict[str, Any]]:
        """The pieces of calls in a decoded delta."""
        calls = join_deltas(delta.tool_calls)
        return [{"index": one.index, **_call(one, custom=(delta.place, one.index) in self._inputs)} for one in calls]

    def whole(self, delta: ChoiceDelta) -> list[dict[str, Any]]:
        """The calls of a whole answer."""
        return [self._whole(call) for call in join_deltas(delta.tool_calls)]

    def _whole(self, call: ToolCallDelta) -> dict[str, Any]:
        if call.name not in self.custom:
            return _call(call, custom=False)
        decoded = CustomInput()
        decoded.add(call.arguments)
        decoded.finish()
        return _call(replace(call, arguments=decoded.text), custom=True)


def _call(call: ToolCallDelta, *, custom: bool) -> dict[str, Any]:
    """A call, or a later piece of one, without id and name."""
    kind, text = ("custom", "input") if custom else ("function", "arguments")
    if call.name is None:
        return {kind: {text: call.arguments}}
    return {"id": call.id, "type": kind, kind: {"name": call.name, text: call.arguments}}
