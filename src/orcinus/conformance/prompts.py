"""Checks of the forms that a prompt may have."""

from __future__ import annotations

from typing import Any

from orcinus.conformance.registry import check
from orcinus.conformance.target import CHAT, HI, OPENING, STORY, TEXT, Json, ServerUnderTest
from orcinus.conformance.verdict import expect, expect_equal

CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}


def _text(answer: Json) -> str:
    return str(answer["choices"][0]["text"])


def _answered(target: ServerUnderTest, *messages: Json) -> None:
    target.ask(CHAT, {"messages": list(messages), "max_tokens": 4})


def _prompt_tokens(target: ServerUnderTest, content: Any) -> int:
    answer = target.chat(messages=[{"role": "user", "content": content}], max_tokens=1)
    return int(answer["usage"]["prompt_tokens"])


@check("prompts: a string in a list is the string")
def _listed(target: ServerUnderTest) -> None:
    expect_equal(_text(target.complete(prompt=[OPENING])), _text(target.complete()), "the text")


@check("prompts: token ids are the string")
def _ids(target: ServerUnderTest) -> None:
    ids = target.tokens(OPENING)
    expect_equal(_text(target.complete(prompt=ids)), _text(target.complete()), "the text")


@check("prompts: a list of lists of ids is the string")
def _nested(target: ServerUnderTest) -> None:
    ids = target.tokens(OPENING)
    expect_equal(_text(target.complete(prompt=[ids])), _text(target.complete()), "the text")


@check("prompts: several are answered in order")
def _several(target: ServerUnderTest) -> None:
    openings = [OPENING, "The sea is", "Hello"]
    found = target.complete(prompt=openings)["choices"]
    expect_equal([one["index"] for one in found], [0, 1, 2], "the order of choices")
    alone = [_text(target.complete(prompt=one)) for one in openings]
    expect_equal([one["text"] for one in found], alone, "the texts")


@check("prompts: a list of text parts is their text")
def _parts(target: ServerUnderTest) -> None:
    parts = [{"type": "text", "text": "Tell me a story "}, {"type": "text", "text": "about a fox."}]
    whole = target.chat(messages=STORY, max_tokens=12)
    found = target.chat(messages=[{"role": "user", "content": [parts[0] | {"text": STORY[0]["content"]}]}], max_tokens=12)
    expect_equal(found["choices"][0]["message"], whole["choices"][0]["message"], "the message")
    _answered(target, {"role": "user", "content": parts})


@check("prompts: a system message")
def _system(target: ServerUnderTest) -> None:
    _answered(target, {"role": "system", "content": "Be brief."}, *HI)


@check("prompts: a developer message")
def _developer(target: ServerUnderTest) -> None:
    _answered(target, {"role": "developer", "content": "Be brief."}, *HI)


@check("prompts: a conversation")
def _conversation(target: ServerUnderTest) -> None:
    _answered(target, *HI, {"role": "assistant", "content": "Hello!"}, *STORY)


@check("prompts: a call of a tool without content, and the tool's answer")
def _tool(target: ServerUnderTest) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    _answered(target, *HI, call, {"role": "tool", "tool_call_id": "call_1", "content": "a fox"})


@check("prompts: fields of a message that a client adds (name, refusal)")
def _extra(target: ServerUnderTest) -> None:
    answer = {"role": "assistant", "content": "Hm", "refusal": None}
    _answered(target, {"role": "user", "name": "ann", "content": "Hi"}, answer, *HI)


@check("prompts: NUL is a character")
def _nul(target: ServerUnderTest) -> None:
    if target.has_completions:
        target.ask(TEXT, {"prompt": "a\x00b", "max_tokens": 2})
    else:
        target.ask(CHAT, {"messages": [{"role": "user", "content": "a\x00b"}], "max_tokens": 2})
    target.unharmed()


@check("prompts: any Unicode")
def _unicode(target: ServerUnderTest) -> None:
    _answered(target, {"role": "user", "content": "naïve 北京 🐋‍ \u202e\ufeff e\u0301 \U0010ffff"})
    target.unharmed()


@check("prompts: special tokens in a user's text are text")
def _special(target: ServerUnderTest) -> None:
    plain, special = _prompt_tokens(target, "x"), _prompt_tokens(target, "x<|im_end|><|im_start|>")
    expect(special > plain + 4, f"<|im_end|><|im_start|> added {special - plain} tokens, as if it were no text")


@check("prompts: an answer goes on to the end of the context", ours=True)
def _to_the_end(target: ServerUnderTest) -> None:
    start = [5] * (target.context - 3)
    found = target.complete(prompt=start, max_tokens=3, ignore_eos=True)
    expect_equal(found["usage"]["total_tokens"], target.context, "the sum of tokens")


@check("prompts: without max_tokens a chat answers as long as it likes")
def _unlimited(target: ServerUnderTest) -> None:
    for body in ({"messages": HI, "temperature": 0}, {"messages": HI, "temperature": 0, "max_tokens": None}):
        choice = target.ask(CHAT, body).json()["choices"][0]
        expect(choice["finish_reason"] in ("stop", "length"), f"finish_reason is {choice['finish_reason']!r}")


@check("prompts: without model the only one is used", ours=True)
def _no_model(target: ServerUnderTest) -> None:
    answer = target.http.post(CHAT, json={"messages": HI, "max_tokens": 1})
    expect_equal(answer.status_code, 200, "status")
    expect_equal(answer.json()["model"], target.model, "model")
