"""JSON Schema of rules between a request's fields, for OpenAPI.

`RequestProcessor` enforces them.
"""

from __future__ import annotations

from pydantic import JsonValue


def needs(field: str, other: str, *off: JsonValue) -> dict[str, JsonValue]:
    """JSON Schema: a field requires another one, except for values `off`."""
    unused: JsonValue = {"properties": {field: {"enum": [None, *off]}}}
    return {"anyOf": [unused, {"properties": {other: {"const": True}}, "required": [other]}]}


STREAM_OPTIONS = needs("stream_options", "stream", {})
NO_MIN_TOKENS: JsonValue = {"properties": {"min_tokens": {"enum": [None, 0]}}}


def given(field: str) -> JsonValue:
    """The schema of a number, as opposed to null."""
    return {"properties": {field: {"type": "integer"}}, "required": [field]}


MIN_TOKENS_OF_CHAT: JsonValue = {"anyOf": [NO_MIN_TOKENS, given("max_tokens"), given("max_completion_tokens")]}
MIN_TOKENS: JsonValue = {"anyOf": [NO_MIN_TOKENS, given("max_tokens")]}
ZERO_MAX_TOKENS: JsonValue = {
    "anyOf": [
        {"not": {"properties": {"max_tokens": {"const": 0}}, "required": ["max_tokens"]}},
        {"properties": {"echo": {"const": True}}, "required": ["echo"]},
    ]
}
HAS_CONTENT: JsonValue = {"properties": {"content": {"not": {"type": "null"}}}, "required": ["content"]}
ASSISTANT: JsonValue = {"properties": {"role": {"const": "assistant"}}, "required": ["role"]}
ONE_ENDING: JsonValue = {
    "properties": {"continue_final_message": {"const": True}, "add_generation_prompt": {"const": True}},
    "required": ["continue_final_message", "add_generation_prompt"],
}
ENDINGS = ("add_generation_prompt", "continue_final_message")
ONLY_PROMPT: JsonValue = {
    "properties": {
        "prompt": {"type": "string"},
        "messages": {"type": "null"},
        "tools": {"enum": [None, []]},
        "chat_template_kwargs": {"enum": [None, {}]},
        **{name: {"enum": [None, False]} for name in ENDINGS},
    },
    "required": ["prompt"],
}
ONLY_MESSAGES: JsonValue = {
    "properties": {"messages": {"type": "array"}, "prompt": {"type": "null"}},
    "required": ["messages"],
}
CHOOSES_A_TOOL: JsonValue = {
    "anyOf": [
        {"properties": {"tool_choice": {"enum": [None, "none", "auto"]}}},
        {"properties": {"tools": {"type": "array", "minItems": 1}}, "required": ["tools"]},
    ]
}
OF_COMPLETIONS: list[JsonValue] = [STREAM_OPTIONS, MIN_TOKENS, ZERO_MAX_TOKENS]
NO_SCHEMA: JsonValue = {"properties": {"type": {"enum": ["text", "json_object"]}}}
WITH_SCHEMA: JsonValue = {
    "properties": {"type": {"const": "json_schema"}, "schema": {"type": "object"}},
    "required": ["schema"],
}
OF_CHATS: list[JsonValue] = [
    STREAM_OPTIONS,
    MIN_TOKENS_OF_CHAT,
    needs("top_logprobs", "logprobs", 0, False),
    CHOOSES_A_TOOL,
]
