"""Conversations with tools as prompts, for callers in this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orcinus.errors import RequestError, shown
from orcinus.text.tokenizer import ChatIds, Tokenizer
from orcinus.text.tools.answer_form import answer_form
from orcinus.text.tools.template_support import find_form, knows_tools, template_call, with_template_ids
from orcinus.text.tools.tool_call import Tool, ToolCallDelta, ToolChoice, check_arguments, join_deltas
from orcinus.text.tools.tool_prompt import without_template
from orcinus.text.tools.tool_use import ToolUse

Definition = Mapping[str, Any]  # {"type": "function", "function": {"name", "description", "parameters", "strict"}}
Definitions = Sequence[Definition]


@dataclass
class ToolInvocation:
    """A call in an answer, joined from its deltas."""

    id: str = ""
    name: str = ""
    arguments: str = ""  # JSON, unless the answer was cut or the model broke the form

    @property
    def message(self) -> dict[str, Any]:
        """The call in OpenAI's form, for an assistant's message."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def joined_calls(deltas: Sequence[ToolCallDelta]) -> list[ToolInvocation]:
    """The calls that deltas are pieces of, in order."""
    return [ToolInvocation(call.id or "", call.name or "", call.arguments) for call in join_deltas(deltas)]


def tools_from(definitions: Definitions) -> tuple[Tool, ...]:
    """Tools from OpenAI's form. Raises `RequestError`."""
    if isinstance(definitions, str | bytes | Mapping) or not isinstance(definitions, Sequence):
        raise RequestError(f"tools must be a list of definitions, not {shown(definitions)}", "tools")
    tools = tuple(_tool(index, definition) for index, definition in enumerate(definitions))
    names = [tool.name for tool in tools]
    if twice := [name for index, name in enumerate(names) if name in names[:index]]:
        raise RequestError(f"tools: {shown(twice[0])} is defined twice: give each tool a name of its own", "tools")
    return tools


def _tool(index: int, definition: Definition) -> Tool:
    function = definition.get("function") if isinstance(definition, Mapping) else None
    if not isinstance(function, Mapping) or definition.get("type") != "function":
        form = '{"type": "function", "function": {"name": …, "parameters": {…}}}'
        raise RequestError(f"tools[{index}] must be of the form {form}", "tools")
    name, description, parameters = (function.get(field) for field in ("name", "description", "parameters"))
    if not isinstance(name, str) or not name:
        raise RequestError(f"tools[{index}].function.name must be text", "tools")
    if not isinstance(description, str | None):
        raise RequestError(f"tools[{index}].function.description must be text", "tools")
    if not isinstance(parameters, Mapping | None):
        raise RequestError(f"tools[{index}].function.parameters must be a JSON Schema", "tools")
    check_arguments(parameters, f"tools[{index}].function.parameters")
    return Tool(name, description, parameters, function.get("strict") is True)


def choice_from(given: Any) -> ToolChoice:
    """A choice from OpenAI's form: a word, or a named function.

    Raises `RequestError`.
    """
    match given:
        case ToolChoice():
            return given
        case "auto" | "none" | "required":
            return ToolChoice(given)
        case {"type": "function", "function": {"name": str(name)}}:
            return ToolChoice("required", name)
    form = '{"type": "function", "function": {"name": …}}'
    raise RequestError(f"tool_choice must be auto, none, required or {form}, not {shown(given)}", "tool_choice")


def encode_tool_chat(
    tokenizer: Tokenizer, messages: Sequence[Mapping[str, Any]], definitions: Definitions, choice: ToolChoice
) -> ChatIds:
    """A conversation with tools as ids, ready for the assistant's next turn.

    The ids carry the tools that the answer may call, and the answer's form if that is bound. Raises `RequestError`.
    """
    tools = tools_from(definitions)
    if not tools and choice.forced:
        raise RequestError("tool_choice wants a call: give tools, too", "tool_choice")
    if not tools and not _has_calls(messages):
        return tokenizer.encode_chat(messages)
    if choice.name is not None and choice.name not in [tool.name for tool in tools]:
        raise RequestError(f"tool_choice: {shown(choice.name)} is none of the tools", "tool_choice")
    offered = () if choice.mode == "none" else tools
    given: Sequence[Mapping[str, Any]] = [_completed(message) for message in messages]
    if knows_tools(tokenizer.chat_template):
        given = with_template_ids(tokenizer.chat_template, given)
        ids = tokenizer.encode_chat(given, tools=[dict(one) for one in definitions] if offered else None)
    else:
        ids = tokenizer.encode_chat(without_template(given, offered))
    if offered:
        ids.tool_use = ToolUse(find_form(tokenizer.chat_template), tools, forced=choice.forced)
        ids.form = answer_form(ids.tool_use, choice, None, tokenizer.added_ids.get)
    return ids


def _has_calls(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether calls or their results are in the history."""
    given = [message for message in messages if isinstance(message, Mapping)]
    return any(message.get("role") == "tool" or message.get("tool_calls") for message in given)


def _completed(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as templates expect it: with content and parsed calls."""
    if not isinstance(message, Mapping):
        raise RequestError(f"a message must be a dictionary with a role and a content, not {shown(message)}")
    content = message.get("content")
    found = {**message, "content": "" if content is None else content}
    if calls := message.get("tool_calls"):
        found["tool_calls"] = [template_call(call.message if isinstance(call, ToolInvocation) else call) for call in calls]
    return found
