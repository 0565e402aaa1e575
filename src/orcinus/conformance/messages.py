"""Checks of `POST /v1/messages`, Anthropic's Messages API."""

from __future__ import annotations

from typing import Any

import httpx

from orcinus.conformance.message_events import check_events
from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.shapes import LEAK
from orcinus.conformance.target import Json, ServerUnderTest, granted
from orcinus.conformance.tools import CITIES, DAYS, FUNCTIONS
from orcinus.conformance.verdict import Failed, Skip, expect, expect_equal, shown

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
USER: Json = {"role": "user", "content": "Hi"}
HELLO: Json = {"messages": [USER], "max_tokens": 16, "temperature": 0}
STORY: Json = HELLO | {"messages": [{"role": "user", "content": "Tell me a story about a fox."}], "max_tokens": 40}
TOOLS: list[Json] = [
    {"name": one["name"], "description": one["description"], "input_schema": one["parameters"]} for one in FUNCTIONS
]
CALLING: Json = HELLO | {
    "messages": [{"role": "user", "content": "What is the weather in Rome?"}],
    "tools": TOOLS,
    "tool_choice": {"type": "any"},
    "max_tokens": 256,
}
FORCED: Json = CALLING | {"tool_choice": {"type": "tool", "name": "forecast"}}
STOPS = ("end_turn", "max_tokens", "stop_sequence", "tool_use")
TYPES = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 413: "request_too_large"}


def headers_of(target: ServerUnderTest) -> dict[str, str]:
    """The headers that Anthropic's clients send."""
    return {"anthropic-version": "2023-06-01"} | ({"x-api-key": target.api_key} if target.api_key else {})


def _needs(target: ServerUnderTest, path: str = MESSAGES) -> None:
    body = HELLO if path == MESSAGES else {"messages": [USER]}
    if target.lacks(path, body, headers_of(target)):
        raise Skip(f"the server has no {path}")


def ask(target: ServerUnderTest, body: Json) -> Json:
    """A message. Raises `Skip` if the server has no such route, or not what the body asks for."""
    _needs(target)
    return granted(target.post(MESSAGES, body, headers_of(target)))


def stream(target: ServerUnderTest, body: Json) -> Json:
    """The message that a stream adds up to, after checking all of its events."""
    _needs(target)
    return check_events(target.events(MESSAGES, body, headers_of(target)))


def text_of(message: Json) -> str:
    """The text blocks of a message, joined."""
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def read_tokens(usage: Json) -> int:
    """All tokens of the prompt, cached or not."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage.get(name) or 0 for name in names)


def _calls(message: Json) -> list[Json]:
    calls = [block for block in message["content"] if block["type"] == "tool_use"]
    expect(calls, f"no tool_use, but {shown(message['content'])}")
    for call in calls:
        name, given = call["name"], call["input"]
        expect(isinstance(given, dict), f"the input is {given!r:.60}")
        right = set(given) == {"city", "days"} and given["city"] in CITIES and given["days"] in DAYS
        expect(right if name == "forecast" else name == "time" and not given, f"the input of {name} is {given!r}")
    ids = [call["id"] for call in calls]
    expect(all(isinstance(one, str) and one for one in ids) and len({*ids}) == len(ids), f"the ids are {ids}")
    expect_equal(message["stop_reason"], "tool_use", "stop_reason")
    return calls


@check("messages: an object with a text block")
def _object(target: ServerUnderTest) -> None:
    found = ask(target, HELLO)
    expect_equal((found["type"], found["role"]), ("message", "assistant"), "type and role")
    expect(isinstance(found["id"], str) and found["id"], f"id is {found['id']!r}")
    expect(text_of(found), "the content has no text")
    expect(found["stop_reason"] in STOPS, f"stop_reason is {found['stop_reason']!r}")
    expect_equal(found["stop_sequence"], None, "stop_sequence")
    expect(read_tokens(found["usage"]) > 0 and found["usage"]["output_tokens"] > 0, f"usage is {found['usage']}")


@check("messages: max_tokens is kept, and the reason is max_tokens")
def _cut(target: ServerUnderTest) -> None:
    found = ask(target, STORY | {"max_tokens": 5})
    expect_equal(found["usage"]["output_tokens"], 5, "output_tokens")
    expect_equal(found["stop_reason"], "max_tokens", "stop_reason")


@check("messages: a stop sequence ends the answer before itself, and is named")
def _stopped(target: ServerUnderTest) -> None:
    whole = text_of(ask(target, STORY))
    word = whole[len(whole) // 2 :][:4]
    if not word.strip():
        raise Skip("the answer is too short to be stopped")
    body = STORY | {"stop_sequences": ["never said", word]}
    for found in (ask(target, body), stream(target, body)):
        expect_equal(text_of(found), whole[: whole.index(word)], "the text")
        expect_equal((found["stop_reason"], found["stop_sequence"]), ("stop_sequence", word), "stop_reason and stop_sequence")


@check("messages: text and text blocks are the same content")
def _blocks(target: ServerUnderTest) -> None:
    whole = text_of(ask(target, STORY))
    text = STORY["messages"][0]["content"]
    blocks = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    expect_equal(text_of(ask(target, STORY | {"messages": blocks})), whole, "the text")


@check("messages: system as text and as blocks is the same, and part of the prompt")
def _system(target: ServerUnderTest) -> None:
    plain = read_tokens(ask(target, HELLO)["usage"])
    texts: tuple[Any, ...] = ("Be brief and kind.", [{"type": "text", "text": "Be brief and kind."}])
    first, second = (ask(target, HELLO | {"system": one}) for one in texts)
    expect(read_tokens(first["usage"]) > plain, "the system prompt is not part of the prompt")
    expect_equal(text_of(second), text_of(first), "the text")


@check("messages: a stream's events are in order and add up to the message")
def _events(target: ServerUnderTest) -> None:
    for body in (HELLO, STORY):
        found, whole = stream(target, body), ask(target, body)
        expect_equal(text_of(found), text_of(whole), "the text of the stream")
        expect_equal(found["stop_reason"], whole["stop_reason"], "stop_reason")
        expect_equal(found["usage"]["output_tokens"], whole["usage"]["output_tokens"], "output_tokens")
        expect_equal(read_tokens(found["usage"]), read_tokens(whole["usage"]), "the tokens of the prompt")


@check("messages: any gives tool_use with input of the schema")
def _any(target: ServerUnderTest) -> None:
    _calls(ask(target, CALLING))


@check("messages: a named tool is the one that is used")
def _named(target: ServerUnderTest) -> None:
    expect_equal([call["name"] for call in _calls(ask(target, FORCED))], ["forecast"], "the tools")


@check("messages: disable_parallel_tool_use gives one call")
def _one(target: ServerUnderTest) -> None:
    choice = {"type": "any", "disable_parallel_tool_use": True}
    for _ in range(3):
        found = ask(target, CALLING | {"tool_choice": choice, "temperature": 1})
        expect_equal(len(_calls(found)), 1, "the number of calls")


@check("messages: a streamed tool_use is the whole one")
def _streamed_call(target: ServerUnderTest) -> None:
    for body in (CALLING, FORCED):
        pairs = [[(call["name"], call["input"]) for call in _calls(one)] for one in (stream(target, body), ask(target, body))]
        expect_equal(pairs[0], pairs[1], "the calls of the stream")


@check("messages: tool_choice none gives text")
def _none(target: ServerUnderTest) -> None:
    found = ask(target, CALLING | {"tool_choice": {"type": "none"}, "max_tokens": 16})
    expect({block["type"] for block in found["content"]} <= {"text", "thinking"}, f"the content is {shown(found['content'])}")


@check("messages: calls can be sent back with their results")
def _results(target: ServerUnderTest) -> None:
    found = ask(target, CALLING)
    for content in ("sunny", [{"type": "text", "text": "sunny"}]):
        results = [{"type": "tool_result", "tool_use_id": call["id"], "content": content} for call in _calls(found)]
        turns = [*CALLING["messages"], {"role": "assistant", "content": found["content"]}, {"role": "user", "content": results}]
        last = ask(target, CALLING | {"messages": turns, "tool_choice": {"type": "auto"}, "max_tokens": 8})
        expect(read_tokens(last["usage"]) > read_tokens(found["usage"]), "the history is not part of the prompt")


@check("messages: count_tokens counts what the request itself reports")
def _count(target: ServerUnderTest) -> None:
    _needs(target, COUNT)
    for body in (STORY, STORY | {"system": "Be brief."}, CALLING | {"tool_choice": {"type": "auto"}, "max_tokens": 8}):
        asked = {name: value for name, value in body.items() if name not in ("max_tokens", "temperature")}
        answer = target.post(COUNT, asked, headers_of(target))
        expect_equal(answer.status_code, 200, "status")
        expect_equal(answer.json()["input_tokens"], read_tokens(ask(target, body)["usage"]), "input_tokens")


@check("messages: headers and query of Anthropic's clients are taken")
def _headers(target: ServerUnderTest) -> None:
    _needs(target)
    headers = headers_of(target) | {"anthropic-beta": "fine-grained-tool-streaming-2025-05-14"}
    expect_equal(target.post(f"{MESSAGES}?beta=true", HELLO, headers).status_code, 200, "status")


def expect_error(answer: httpx.Response, status: int) -> None:
    """Raise `Failed` unless an answer is this error in Anthropic's form."""
    expect_equal(answer.status_code, status, "status")
    try:
        found = answer.json()
        kind, error, message = found["type"], found["error"]["type"], found["error"]["message"]
    except (ValueError, KeyError, TypeError):
        raise Failed(f"the error has not Anthropic's form: {shown(answer.content)}") from None
    expect_equal(kind, "error", "type")
    expect_equal(error, TYPES[status], "the error's type")
    expect(isinstance(message, str) and message, "the error has no message")
    expect(not LEAK.search(message), f"the message shows the inside: {shown(message)}")


IMAGE: Json = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1:9/cat.png"}}
ORPHAN: Json = {"type": "tool_result", "tool_use_id": "no_such_call", "content": "x"}


def _said(content: Any) -> Json:
    return {"messages": [{"role": "user", "content": content}]}


# name, fields, whether only Orcinus must refuse it
REFUSED: list[tuple[str, Json, bool]] = [
    ("no messages", {"messages": []}, False),
    ("a string as messages", {"messages": "Hi"}, False),
    ("an unknown role", {"messages": [{"role": "wizard", "content": "Hi"}]}, False),
    ("a message without content", {"messages": [{"role": "user"}]}, False),
    ("content null", _said(None), False),
    ("a number as content", _said(5), False),
    ("a number as a block", _said([5]), False),
    ("a block without a type", _said([{"text": "Hi"}]), False),
    ("a block of an unknown type", _said([{"type": "smell"}]), False),
    ("a text block without text", _said([{"type": "text"}]), False),
    ("an image", _said([IMAGE]), True),
    ("a result of an unknown call", _said([ORPHAN]), False),
    ("max_tokens null", {"max_tokens": None}, False),
    ("max_tokens 0", {"max_tokens": 0}, False),
    ("max_tokens 'many'", {"max_tokens": "many"}, False),
    ("temperature 5", {"temperature": 5}, False),
    ("top_p 7", {"top_p": 7}, False),
    ("a string as stop_sequences", {"stop_sequences": "x"}, False),
    ("a number as system", {"system": 5}, False),
    ("stream 'yes'", {"stream": "yes"}, False),
    ("a string as tools", {"tools": "look"}, False),
    ("a tool without a name", {"tools": [{"input_schema": {"type": "object"}}]}, False),
    ("a tool without an input_schema", {"tools": [{"name": "look"}]}, False),
    ("a list as an input_schema", {"tools": [TOOLS[0] | {"input_schema": ["city"]}]}, False),
    ("a tool's name of control characters", {"tools": [TOOLS[0] | {"name": "a\n\u0000"}]}, False),
    ("two tools of one name", {"tools": [TOOLS[0], TOOLS[0]]}, False),
    ("tool_choice of an unknown tool", {"tools": TOOLS, "tool_choice": {"type": "tool", "name": "no"}}, False),
    ("tool_choice tool without a name", {"tools": TOOLS, "tool_choice": {"type": "tool"}}, False),
    ("tool_choice any without tools", {"tool_choice": {"type": "any"}}, False),
    ("a string as tool_choice", {"tools": TOOLS, "tool_choice": "any"}, False),
    ("an unknown type of tool_choice", {"tools": TOOLS, "tool_choice": {"type": "perhaps"}}, False),
]  # fmt: skip


def _refused(fields: Json) -> Body:
    def body(target: ServerUnderTest) -> None:
        _needs(target)
        target.remember()
        given = {name: value for name, value in (HELLO | fields).items() if value is not None}
        expect_error(target.post(MESSAGES, given, headers_of(target)), 400)
        target.unharmed()

    return body


for _name, _fields, _ours in REFUSED:
    add(Check(f"messages: {_name} is 400", _refused(_fields), _ours))


@check("messages: an unknown model is 404")
def _model(target: ServerUnderTest) -> None:
    _needs(target)
    expect_error(target.post(MESSAGES, HELLO | {"model": "no-such-model"}, headers_of(target)), 404)


@check("messages: broken JSON is 400")
def _broken(target: ServerUnderTest) -> None:
    _needs(target)
    headers = headers_of(target) | {"Content-Type": "application/json"}
    expect_error(target.http.post(MESSAGES, content=b'{"messages": [', headers=headers), 400)
