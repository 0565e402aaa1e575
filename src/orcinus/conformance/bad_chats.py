"""Checks of invalid chats: messages, tools, schemas and templates."""

from __future__ import annotations

import socket
from typing import Any

from orcinus.conformance.bad_fields import LEFT_OUT, BadCase, add_rows, chat, said
from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.shapes import expect_error
from orcinus.conformance.target import CHAT, HI, Json, ServerUnderTest
from orcinus.conformance.verdict import expect

SOUND = {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


def _image(url: str) -> list[Json]:
    return said([{"type": "image_url", "image_url": {"url": url}}])


def _schema(**schema: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def _recursive() -> Json:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}
    return _schema(**{"$ref": "#/$defs/node", "$defs": {"node": node}})


def _deep(levels: int) -> Json:
    schema: Json = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def _refs(count: int) -> Json:
    names = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(count)}
    return _schema(**{"$ref": "#/$defs/d0", "$defs": names | {f"d{count}": {"type": "string"}}})


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

MUCH: dict[str, Json] = {  # schemas that ask for much: they may be refused, or followed for as long as the answer lasts
    "a huge maxLength": _schema(type="string", maxLength=10**9),
    "2,000 references in a row": _refs(2000),
    "40 arrays deep": _schema(**_deep(40)),
    "endless": _recursive(),
    "a pattern of 10 KB": _schema(type="string", pattern="(a|b?)+" * 1500),
}

TOOLS = [
    chat("tool_choice without tools", "tool_choice", tool_choice="required"),
    chat(
        "tool_choice of an unknown function", None, tools=[TOOL], tool_choice={"type": "function", "function": {"name": "no"}}
    ),
    chat("a tool without a function", "tools", tools=[{"type": "function"}]),
    chat("a string as tools", "tools", tools="look"),
]

TEMPLATES = [
    chat("chat_template", "chat_template", chat_template="{{ messages }}"),
    *(
        chat(f"chat_template_kwargs with {name}", "chat_template_kwargs", chat_template_kwargs={name: "x"})
        for name in ("messages", "tools", "chat_template")
    ),
    chat("a string as chat_template_kwargs", "chat_template_kwargs", chat_template_kwargs="x"),
    chat("an endless list in chat_template_kwargs", "chat_template_kwargs", ours=True, chat_template_kwargs={"x": [1] * 10**6}),
]

add_rows("errors", [*MESSAGES, *FORMATS, *TOOLS, *TEMPLATES])


def _much(schema: Json) -> Body:
    def body(target: ServerUnderTest) -> None:
        target.remember()
        answer = target.post(CHAT, {"messages": HI, "max_tokens": 4, "response_format": schema})
        if answer.status_code != 200:
            expect_error(answer, 400, "response_format")
        target.unharmed()

    return body


for _name, _asked in MUCH.items():
    add(Check(f"fields: a schema that asks for much ({_name}) is refused or followed", _much(_asked)))


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
