"""Checks of invalid chats: messages, tools, schemas and templates."""

from __future__ import annotations

import socket
from typing import Any

from orcinus.conformance.bad_fields import LEFT_OUT, BadCase, add_rows, chat, said
from orcinus.conformance.registry import check
from orcinus.conformance.shapes import expect_error
from orcinus.conformance.target import CHAT, Json, ServerUnderTest
from orcinus.conformance.verdict import expect

SOUND = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
NAMED = {"type": "function", "function": {"name": "look"}}


def _image(url: str) -> list[Json]:
    return said([{"type": "image_url", "image_url": {"url": url}}])


def _schema(**schema: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


MESSAGES: list[BadCase] = [
    chat("no messages field", "messages", messages=LEFT_OUT),
    chat("messages null", "messages", messages=None),
    chat("no messages", "messages", messages=[]),
    chat("a string as messages", "messages", messages="Hi"),
    chat("a string as a message", "messages[0]", messages=["Hi"]),
    chat("no role", "messages[0].role", messages=[{"content": "Hi"}]),
    chat("an unknown role", "messages[1].role", messages=[*said("Hi"), {"role": "wizard", "content": "Hi"}]),
    chat("content null", "messages[1].content", messages=said("Hi", None)),
    chat("no content", "messages[0].content", messages=[{"role": "user"}]),
    chat("a number as content", "messages[2].content", messages=said("Hi", "Hi", 5)),
    chat("a number as a part", "messages[0].content[0]", messages=said([5])),
    chat("a part without a type", "messages[0].content[1]", messages=said([{"type": "text", "text": "Hi"}, {"text": "x"}])),
    chat("a part without its text", "messages[0].content[0]", messages=said([{"type": "text"}])),
    chat("a part of an unknown type", "messages[0].content[0]", messages=said([{"type": "smell", "smell": "x"}])),
    chat("an image at a link-local address", "messages[0].content[0]", messages=_image("http://169.254.169.254/latest/")),
    chat("an image from a file", "messages[0].content[0]", messages=_image("file:///etc/hostname")),
    chat("a sound", "messages[0].content[0]", messages=said([SOUND])),
]  # fmt: skip

FORMATS = [
    chat("json_schema without a schema", "response_format", response_format={"type": "json_schema"}),
    chat("a schema that is none", "response_format", response_format=_schema(type="wibble")),
    chat("an unknown response_format", "response_format", response_format={"type": "xml"}),
    chat("a string as response_format", "response_format", response_format="json"),
]


def _tool(**function: Any) -> Json:
    """The fields of a chat with a tool whose function is wrong."""
    return {"tools": [TOOL | {"function": {"name": "look"} | function}]}


CHOICES: dict[str, Any] = {
    "a number": 5,
    "an unknown word": "perhaps",
    "an empty object": {},
    "a type alone": {"type": "function"},
    "an empty function": {"type": "function", "function": {}},
    "a number as its name": {"type": "function", "function": {"name": 5}},
    "a list": [NAMED],
}

TOOLS = [
    chat("tool_choice without tools", "tool_choice", tool_choice="required"),
    chat("a named tool_choice without tools", "tool_choice", tool_choice=NAMED),
    chat("tool_choice required with no tools", "tool_choice", tool_choice="required", tools=[]),
    chat(
        "tool_choice of an unknown function", None, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "no"}}
    ),
    *(chat(f"{name} as tool_choice", "tool_choice", tools=[TOOL], tool_choice=one) for name, one in CHOICES.items()),
    chat("a tool without a function", "tools", tools=[{"type": "function"}]),
    chat("a tool of an unknown type", "tools", tools=[TOOL | {"type": "spell"}]),
    chat("a string as tools", "tools", tools="look"),
    chat("a number as a tool", "tools", tools=[TOOL, 5]),
    chat("a function without a name", "tools", tools=[{"type": "function", "function": {"description": "x"}}]),
    chat("a function's name of control characters", "tools", **_tool(name="a\n\u0000")),
    chat("a function's name with spaces", "tools", **_tool(name="look here")),
    chat("an empty name of a function", "tools", **_tool(name="")),
    chat("a function's name of 10,000 characters", "tools", **_tool(name="a" * 10_000)),
    chat("a number as a function's description", "tools", **_tool(description=5)),
    chat("a string as a function's parameters", "tools", **_tool(parameters="city")),
    chat("a list as a function's parameters", "tools", **_tool(parameters=["city"])),
    chat("a string's schema as a function's parameters", "tools", **_tool(parameters={"type": "string"})),
    chat("an unknown type as a function's parameters", "tools", **_tool(parameters={"type": "wibble"})),
    chat("two tools of one name", "tools", ours=True, tools=[TOOL, TOOL]),
    chat("10,000 tools", "tools", ours=True, tools=[TOOL] * 10_000),
    chat("a string as parallel_tool_calls", "parallel_tool_calls", tools=[TOOL], parallel_tool_calls="yes"),
]

RESULT: Json = {"role": "tool", "tool_call_id": "c", "content": "x"}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def _called(*calls: Any) -> list[Json]:
    return [*said("Hi"), {"role": "assistant", "content": None, "tool_calls": list(calls)}]


HISTORIES = [
    chat("a string as tool_calls", "messages[1]", messages=[*said("Hi"), {"role": "assistant", "tool_calls": "look"}]),
    chat("a number as a call", "messages[1]", messages=_called(CALL, 5)),
    chat("a call without a function", "messages[1]", messages=_called({"id": "c", "type": "function"})),
    chat("a call without a name", "messages[1]", messages=_called({"id": "c", "type": "function", "function": {}})),
    chat(
        "a number as arguments", "messages[1]", messages=_called(CALL | {"function": {"name": "look", "arguments": 5}})
    ),
    chat("a number as tool_call_id", "messages[2]", messages=[*_called(CALL), RESULT | {"tool_call_id": 5}]),
]  # fmt: skip

TEMPLATES = [
    chat("chat_template", "chat_template", chat_template="{{ messages }}"),
    *(
        chat(f"chat_template_kwargs with {name}", "chat_template_kwargs", chat_template_kwargs={name: "x"})
        for name in ("messages", "tools", "chat_template")
    ),
    chat("a string as chat_template_kwargs", "chat_template_kwargs", chat_template_kwargs="x"),
    chat("an endless list in chat_template_kwargs", "chat_template_kwargs", ours=True, chat_template_kwargs={"x": [1] * 10**6}),
]

add_rows("errors", [*MESSAGES, *FORMATS, *TOOLS, *HISTORIES, *TEMPLATES])


@check("errors: the address of an image is never fetched")
def _never_fetched(target: ServerUnderTest) -> None:
    with socket.create_server(("127.0.0.1", 0)) as trap:
        port = trap.getsockname()[1]
        answer = target.post(CHAT, {"messages": _image(f"http://127.0.0.1:{port}/cat.png"), "max_tokens": 1})
        trap.settimeout(0.5)
        try:
            trap.accept()[0].close()
        except TimeoutError:
            expect_error(answer, 400, "messages[0].content[0]")
            return
    expect(False, "the server fetched the address of an image part")
