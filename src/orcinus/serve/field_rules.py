"""JSON Schema of rules between a request's fields, for OpenAPI.

`RequestProcessor` enforces them.
"""

from __future__ import annotations

from pydantic import JsonValue


def together(field: str, in_use: JsonValue, **others: JsonValue) -> JsonValue:
    """The schema of a field in use beside others that are off."""
    return {"required": [field], "properties": {field: in_use, **others}}


def none_of(*forbidden: JsonValue) -> dict[str, JsonValue]:
    """The keyword that forbids combinations of fields.

    One `not` of all, because tools multiply the alternatives of several rules.
    """
    return {"not": {"anyOf": list(forbidden)}}


ABOVE_0: JsonValue = {"type": "integer", "minimum": 1}
NULL: JsonValue = {"type": "null"}
STREAM_OPTIONS = together("stream_options", {"not": {"enum": [None, {}]}}, stream={"enum": [None, False]})
MIN_TOKENS_OF_CHAT = together("min_tokens", ABOVE_0, max_tokens=NULL, max_completion_tokens=NULL)
MIN_TOKENS = together("min_tokens", ABOVE_0, max_tokens=NULL)
ZERO_MAX_TOKENS = together("max_tokens", {"const": 0}, echo={"enum": [None, False]})
TOP_LOGPROBS = together("top_logprobs", ABOVE_0, logprobs={"enum": [None, False, 0]})
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
NO_TOOL_TO_CHOOSE = together("tool_choice", {"not": {"enum": [None, "none", "auto"]}}, tools={"enum": [None, []]})
OF_COMPLETIONS = none_of(STREAM_OPTIONS, MIN_TOKENS, ZERO_MAX_TOKENS)
NO_SCHEMA: JsonValue = {"properties": {"type": {"enum": ["text", "json_object"]}}}
WITH_SCHEMA: JsonValue = {
    "properties": {"type": {"const": "json_schema"}, "schema": {"type": "object"}},
    "required": ["schema"],
}
OF_CHATS = none_of(ONE_ENDING, STREAM_OPTIONS, MIN_TOKENS_OF_CHAT, TOP_LOGPROBS, NO_TOOL_TO_CHOOSE)
