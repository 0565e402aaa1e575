"""Checks that unknown answer-changing fields are refused, never ignored."""

from __future__ import annotations

from typing import Any

from orcinus.conformance.registry import Body, Check, add
from orcinus.conformance.shapes import expect_error
from orcinus.conformance.target import CHAT, HI, OPENING, TEXT, Json, ServerUnderTest
from orcinus.conformance.verdict import expect, expect_equal

SCHEMA = {"type": "object", "properties": {"fox": {"type": "boolean"}}, "required": ["fox"]}
# What no server without structured output, other samplers or sound can do. A 400 is right, and so is an answer that obeys;
# which one came is for other checks to say: here the answer must not be the one without the field.
WISHES: dict[str, tuple[str, Any]] = {
    "structured_outputs": (CHAT, {"json": SCHEMA}),
    "guided_json": (CHAT, SCHEMA),
    "guided_regex": (CHAT, "[0-9]{4}"),
    "guided_choice": (CHAT, ["0123", "4567"]),
    "guided_grammar": (CHAT, 'root ::= "0123"'),
    "grammar": (TEXT, 'root ::= "0123"'),
    "json_schema": (TEXT, SCHEMA),
    "regex": (CHAT, "[0-9]{4}"),
    "ebnf": (CHAT, 'root ::= "0123"'),
    "n_predict": (TEXT, 1),
    "max_new_tokens": (TEXT, 1),
    "chat_template": (CHAT, "{{ 'Once upon a time' }}"),
    "echo": (CHAT, True),
    "suffix": (TEXT, " The end."),
    "stop_sequences": (TEXT, ["a", "e", "o", " "]),
    "system": (CHAT, "Answer with numbers only."),
}
# The same, though an answer may by chance be equal: these must be refused or known.
SAMPLERS: dict[str, Any] = {
    "mirostat": 2,
    "dry_multiplier": 0.8,
    "xtc_probability": 0.5,
    "typical_p": 0.2,
    "tfs_z": 0.5,
    "cfg_scale": 2,
    "repeat_penalty": 1.5,
}


def _not_ignored(path: str, name: str, value: Any) -> Body:
    def body(target: ServerUnderTest) -> None:
        start: Json = {"prompt": OPENING} if path == TEXT else {"messages": HI}
        request = start | {"temperature": 0, "max_tokens": 12}
        answer = target.post(path, request | {name: value})
        if answer.status_code == 200:
            plain = target.ask(path, request).json()["choices"][0]
            choice = answer.json()["choices"][0]
            same = all(choice.get(part) == plain.get(part) for part in ("text", "message", "finish_reason"))
            expect(not same, "the field is ignored")
        else:
            expect_error(answer, 400, name)

    return body


def _refused(name: str, value: Any) -> Body:
    def body(target: ServerUnderTest) -> None:
        answer = target.post(TEXT, {"prompt": OPENING, "max_tokens": 2, name: value})
        expect_equal(expect_error(answer, 400, name)["code"], "unsupported_parameter", "the code")

    return body


for _name, (_path, _value) in WISHES.items():
    add(Check(f"unsupported: {_name} is obeyed or refused", _not_ignored(_path, _name, _value)))
for _name, _value in SAMPLERS.items():
    add(Check(f"unsupported: {_name} is refused", _refused(_name, _value), ours=True))
