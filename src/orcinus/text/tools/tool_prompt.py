"""Tools, calls and results as text, for templates without tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orcinus.text.tools.hermes import CLOSE, OPEN
from orcinus.text.tools.tool_call import Tool

RESULT, END_OF_RESULT = "<tool_response>", "</tool_response>"
PROMPT = f"""You can call functions. To call one, write its name and its arguments as JSON, like this:
{OPEN}
{{"name": "function_name", "arguments": {{"argument": "value"}}}}
{CLOSE}
The result then follows between {RESULT} and {END_OF_RESULT}. You may make several calls, one after another. Call a
function only if you need its result; otherwise answer directly. These are the functions, with JSON Schemas of their arguments:
<tools>
%s
</tools>"""


def without_template(messages: Sequence[Mapping[str, Any]], tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The same conversation without tools, in the form `hermes`.

    The tools stand in the first system message, calls in the assistant's content, results in user messages: those that
    follow one another in one message. Text only grows at its end when messages are appended, except that results may join
    the results before them.
    """
    found: list[dict[str, Any]] = []
    results = False
    for message in messages:
        if message.get("role") != "tool":
            found.append(_with_calls(message))
        elif results:
            found[-1]["content"] += "\n" + _result(message)
        else:
            found.append({"role": "user", "content": _result(message)})
        results = message.get("role") == "tool"
    return _with_prompt(found, system_text(tools)) if tools else found


def system_text(tools: Sequence[Tool]) -> str:
    """What tells the model about its tools, one a line."""
    return PROMPT % "\n".join(_tool(tool) for tool in tools)


def calls_text(calls: Sequence[Mapping[str, Any]]) -> str:
    """Calls of an earlier answer, as the model writes them.

    `calls` are OpenAI's: `{"function": {"name", "arguments"}}`, arguments as JSON text or as an object.
    """
    return "\n".join(_call(call["function"]) for call in calls)


def _call(function: Mapping[str, Any]) -> str:
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else _json(arguments or {})
    return f'{OPEN}\n{{"name": {_json(function["name"])}, "arguments": {text or "{}"}}}\n{CLOSE}'


def _with_calls(message: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in message.items() if name != "tool_calls"}
    if calls := message.get("tool_calls"):
        parts = (message.get("content") or "", calls_text(calls))
        found["content"] = "\n".join(part for part in parts if part)
    return found


def _result(message: Mapping[str, Any]) -> str:
    return f"{RESULT}\n{message.get('content') or ''}\n{END_OF_RESULT}"


def _with_prompt(messages: list[dict[str, Any]], prompt: str) -> list[dict[str, Any]]:
    """The messages with the prompt in their system message.

    It stands at the end of the first message, or makes one.
    """
    if messages and messages[0].get("role") in ("system", "developer"):
        first = messages[0]
        return [{**first, "content": "\n\n".join(part for part in (first.get("content") or "", prompt) if part)}, *messages[1:]]
    return [{"role": "system", "content": prompt}, *messages]


def _tool(tool: Tool) -> str:
    parameters = tool.parameters or {"type": "object", "properties": {}}
    described = {} if tool.description is None else {"description": tool.description}
    return _json({"name": tool.name, **described, "parameters": parameters})


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
