"""Right bodies for every route that takes one, and values that are wrong in most places."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"city": "Rome"}'}}
FUNCTION = {"name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": True}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "r"}]}
USER = {"role": "user", "content": "Hi"}
CONVERSATIONS: dict[str, tuple[str, Json]] = {  # with everything that has a structure
    "chat with tools": ("/v1/chat/completions", {
        "messages": [
            {"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c", "content": "x"}, USER,
        ],
        "tools": [{"type": "function", "function": FUNCTION}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "parallel_tool_calls": False, "stop": ["x"], "logprobs": True, "top_logprobs": 1, "max_tokens": 2,
    }),
    "chat in a form": ("/v1/chat/completions", {
        "messages": [USER], "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
        "stream": True, "stream_options": {"include_usage": True}, "thinking_token_budget": 3, "max_tokens": 2,
    }),
    "response": ("/v1/responses", {
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "x"}]},
            {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "z"}]},
        ],
        "tools": [
            {"type": "function", **FUNCTION}, {"type": "custom", "name": "free", "format": {"type": "text"}},
            {"type": "namespace", "name": "ns", "tools": [{"type": "function", "name": "in", "parameters": SCHEMA}]},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "custom", "name": "free"}]},
        "instructions": "i", "metadata": {"a": "b"}, "truncation": "auto", "store": False, "max_output_tokens": 2,
    }),
    "message": ("/v1/messages", {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "t", "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "look", "input": {"city": "Rome"}},
            ]},
            {"role": "user", "content": [RESULT]},
        ],
        "system": [{"type": "text", "text": "s"}], "tools": [{"name": "look", "input_schema": SCHEMA, "strict": True}],
        "tool_choice": {"type": "tool", "name": "look"}, "stop_sequences": ["x"], "metadata": {"user_id": "u"},
        "max_tokens": 2,
    }),
}  # fmt: skip
SAMPLING = {  # fields of all routes for answers
    "temperature": 0.7, "top_p": 0.9, "top_k": 3, "min_p": 0.1, "seed": 1, "n": 2, "presence_penalty": 0.1,
    "frequency_penalty": 0.1, "repetition_penalty": 1.1, "logit_bias": {"3": 1.0}, "stop": ["x"], "stop_token_ids": [3],
    "min_tokens": 1, "bad_words": ["bad"], "allowed_token_ids": [1, 2, 3], "ignore_eos": True, "timeout": 5, "user": "u",
    "cache_salt": "s", "priority": 1, "truncate_prompt_tokens": 5, "prompt_logprobs": 1, "return_token_ids": True,
}  # fmt: skip
BODIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    **{name: ("POST", path, body) for name, (path, body) in CONVERSATIONS.items()},
    "completion": (
        "POST",
        "/v1/completions",
        {"prompt": ["Hi", "there"], "max_tokens": 2, "echo": True, "logprobs": 1} | SAMPLING,
    ),
    "completion of ids": ("POST", "/v1/completions", {"prompt": [1, 2, 3], "max_tokens": 2, "stream": True, "suffix": None}),
    "chat that samples": (
        "POST",
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, "chat_template_kwargs": {"enable_thinking": False}}
        | SAMPLING,
    ),
    "form": ("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 2, "structured_outputs": {"regex": "[a-z]{3}(x|y)*"}}),
    "tokenize": (
        "POST",
        "/tokenize",
        {"messages": [{"role": "user", "content": "Hi"}], "tools": [], "add_special_tokens": True},
    ),
    "detokenize": ("POST", "/detokenize", {"tokens": [1, 2, 3]}),
    "count": ("POST", "/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "Hi"}], "system": "s"}),
    "scheduler": ("PUT", "/v1/scheduler", {"policy": "sarathi:chunk_size=64", "order": "fcfs", "max_batch_size": 8}),
}
ODD: list[Any] = [
    *(None, True, 0, -1, 2**63, 10**300, 1.5, "", "x", "\u0000", "a\nb", "<tool_call>", "x" * 300, "auto", "required"),
    *([], [None], [[]], [{}], {}, {"type": None}, {"type": "text"}, {"type": []}, {"": ""}, ["x"] * 50, {"name": "look"}),
    *({"$ref": "#"}, {"$ref": "#/nope"}, {"type": "string", "pattern": "("}, {"anyOf": []}, {"enum": []}, {"not": {}}),
    *({"type": "object", "required": ["z"]}, {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
]
