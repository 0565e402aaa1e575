"""Checks of log-probabilities of chats, completions and prompts."""

from __future__ import annotations

import math

from orcinus.conformance.registry import check
from orcinus.conformance.target import CHAT, OPENING, STORY, TEXT, Json, ServerUnderTest
from orcinus.conformance.verdict import Skip, expect, expect_equal

CLOSE = 0.02  # between a logprob of a prompt and that of the same token as an answer, whose batches differ


def _legacy(answer: Json) -> Json:
    found: Json = answer["choices"][0]["logprobs"]
    lengths = {name: len(found[name]) for name in ("tokens", "token_logprobs", "top_logprobs", "text_offset")}
    expect(len(set(lengths.values())) == 1, f"lists of unequal lengths: {lengths}")
    return found


def _echo(target: ServerUnderTest, **fields: object) -> Json:
    return target.complete(**({"echo": True, "logprobs": 1, "max_tokens": 0} | fields))


@check("logprobs: a chat has one entry a token")
def _chat(target: ServerUnderTest) -> None:
    found = target.chat(messages=STORY, max_tokens=6, logprobs=True, top_logprobs=3)
    content = found["choices"][0]["logprobs"]["content"]
    expect_equal(len(content), 6, "the number of entries")
    for one in content:
        expect(one["logprob"] <= 0, f"a logprob of {one['logprob']}")
        expect_equal(len(one["top_logprobs"]), 3, "the number of top_logprobs")
        expect_equal(one["top_logprobs"][0]["token"], one["token"], "the likeliest token of a greedy answer")
        expect(one["bytes"] is None or isinstance(one["bytes"], list), "bytes is no list")
    expect_equal("".join(one["token"] for one in content), found["choices"][0]["message"]["content"], "the tokens' text")


@check("logprobs: bytes of a token are its bytes, also of half a character")
def _bytes(target: ServerUnderTest) -> None:
    fields = {"logprobs": True, "top_logprobs": 0, "max_tokens": 120, "temperature": 2, "seed": 5}
    choice = target.chat(messages=STORY, **fields)["choices"][0]
    entries = choice["logprobs"]["content"]
    if all(one["bytes"] is None for one in entries):
        raise Skip("the server does not give bytes")
    raw = bytes(byte for one in entries for byte in one["bytes"] or ())  # null: a special token, which has none
    expect_equal(raw.decode("utf-8", "replace"), choice["message"]["content"], "the text of the bytes")


@check("logprobs: a chat without top_logprobs has none of them")
def _no_top(target: ServerUnderTest) -> None:
    content = target.chat(max_tokens=3, logprobs=True)["choices"][0]["logprobs"]["content"]
    expect_equal([one["top_logprobs"] for one in content], [[]] * len(content), "top_logprobs")


@check("logprobs: they come only if asked for")
def _not_asked(target: ServerUnderTest) -> None:
    expect_equal(target.chat(max_tokens=2)["choices"][0].get("logprobs"), None, "logprobs of a chat")
    expect_equal(target.complete()["choices"][0].get("logprobs"), None, "logprobs of a completion")


@check("logprobs: a completion has OpenAI's older shape")
def _older(target: ServerUnderTest) -> None:
    answer = target.complete(logprobs=2)
    found = _legacy(answer)
    expect_equal("".join(found["tokens"]), answer["choices"][0]["text"], "the tokens' text")
    expect(all(value <= 0 for value in found["token_logprobs"]), "a logprob above 0")
    starts = [sum(map(len, found["tokens"][:i])) for i in range(len(found["tokens"]))]
    first = found["text_offset"][0]  # 0, or the length of the prompt
    expect_equal([offset - first for offset in found["text_offset"]], starts, "text_offset")
    for token, value, top in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"], strict=True):
        expect(len(top) in (2, 3), f"{len(top)} top_logprobs, not 2")
        expect(math.isclose(top[token], value, abs_tol=1e-4), "a token's logprob differs from that among the top")


@check("logprobs: 0 in a completion gives the chosen token's alone")
def _zero(target: ServerUnderTest) -> None:
    found = _legacy(target.complete(logprobs=0))
    expect(all(len(top or {}) <= 1 for top in found["top_logprobs"]), "more than the chosen token")


@check("logprobs: a stream has those of the whole")
def _streamed(target: ServerUnderTest) -> None:
    whole = target.chat(messages=STORY, max_tokens=6, logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]["content"]
    stream = target.stream(CHAT, messages=STORY, max_tokens=6, logprobs=True, top_logprobs=1)
    entries = [one for choice in stream.choices() if choice.get("logprobs") for one in choice["logprobs"]["content"]]
    expect_equal([one["token"] for one in entries], [one["token"] for one in whole], "the tokens")
    near = all(math.isclose(one["logprob"], two["logprob"], abs_tol=CLOSE) for one, two in zip(entries, whole, strict=True))
    expect(near, "the logprobs differ")


@check("logprobs: a streamed completion's offsets go on")
def _streamed_offsets(target: ServerUnderTest) -> None:
    stream = target.stream(TEXT, max_tokens=6, logprobs=1)
    offsets = [offset for one in stream.choices() if one.get("logprobs") for offset in one["logprobs"]["text_offset"]]
    whole = _legacy(target.complete(max_tokens=6, logprobs=1))["text_offset"]
    expect_equal([offset - offsets[0] for offset in offsets], [offset - whole[0] for offset in whole], "text_offset")


@check("echo: max_tokens 0 gives the prompt back")
def _prompt_back(target: ServerUnderTest) -> None:
    answer = target.complete(echo=True, max_tokens=0)
    expect_equal(answer["choices"][0]["text"], OPENING, "the text")
    expect_equal(answer["usage"]["completion_tokens"], 0, "completion_tokens")


@check("echo: the prompt and then the answer")
def _prompt_and_answer(target: ServerUnderTest) -> None:
    plain = target.complete()["choices"][0]["text"]
    expect_equal(target.complete(echo=True)["choices"][0]["text"], OPENING + plain, "the text")


@check("echo: in a stream too")
def _echo_streamed(target: ServerUnderTest) -> None:
    plain = target.complete(echo=True, max_tokens=8)["choices"][0]["text"]
    expect_equal(target.stream(TEXT, echo=True, max_tokens=8).text(), plain, "the text")


@check("echo: logprobs of a prompt, the first null")
def _prompt_logprobs(target: ServerUnderTest) -> None:
    found = _legacy(_echo(target))
    expect_equal("".join(found["tokens"]), OPENING, "the tokens' text")
    expect(found["token_logprobs"][0] is None and found["top_logprobs"][0] is None, "the first is not null")
    expect(all(value <= 0 for value in found["token_logprobs"][1:]), "a logprob above 0")
    expect_equal(found["text_offset"][0], 0, "the first text_offset")


@check("echo: with max_tokens 1 as lm-eval sends it, one more token")
def _one_more(target: ServerUnderTest) -> None:
    prompt = target.tokens(OPENING)
    found = _legacy(_echo(target, prompt=[prompt], max_tokens=1))
    expect_equal(len(found["tokens"]), len(prompt) + 1, "the number of tokens")


@check("echo: several prompts of ids, each with its logprobs")
def _several(target: ServerUnderTest) -> None:
    prompts = [target.tokens(OPENING), target.tokens("The sea is blue")]
    answer = _echo(target, prompt=prompts)
    lengths = [len(choice["logprobs"]["tokens"]) for choice in answer["choices"]]
    expect_equal(lengths, [len(one) for one in prompts], "the numbers of tokens")


@check("echo: a token has the same logprob in a prompt as in an answer")
def _same(target: ServerUnderTest) -> None:
    start = target.tokens(OPENING)
    answer = target.complete(prompt=start, logprobs=1, return_token_ids=True)
    ids = answer["choices"][0].get("token_ids")
    if ids is None:
        raise Skip("the server does not know return_token_ids")
    written = _legacy(answer)["token_logprobs"]
    for _ in range(2):  # the second time the prompt may come from a cache, and has to be read again all the same
        read = _legacy(_echo(target, prompt=start + ids))["token_logprobs"][len(start) :]
        off = max(abs(one - two) for one, two in zip(written, read, strict=True))
        expect(off < CLOSE, f"they differ by {off:.3f}")
