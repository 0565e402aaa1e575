"""Checks of streams."""

from __future__ import annotations

from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.target import CHAT, HI, OPENING, STORY, TEXT, Json, ServerUnderTest
from orcinus.conformance.verdict import expect, expect_equal

USAGE: Json = {"stream_options": {"include_usage": True}}

# For every request a stream has the content of the response that is not streamed.
SAME: list[tuple[str, str, Json]] = [
    ("a chat", CHAT, {"messages": HI}),
    ("a long chat", CHAT, {"messages": STORY, "max_tokens": 120}),
    ("a completion", TEXT, {"prompt": OPENING}),
    ("two prompts", TEXT, {"prompt": [OPENING, "The sea is"]}),
    ("two answers", CHAT, {"messages": STORY, "n": 2, "temperature": 1, "seed": 3}),
    ("characters of several tokens", CHAT, {"messages": STORY, "temperature": 2, "seed": 4, "max_tokens": 150}),
    ("a stop string", CHAT, {"messages": STORY, "stop": ["the ", "a l"], "max_tokens": 60}),
    ("a long stop string that begins", TEXT, {"prompt": OPENING, "stop": [" was no such thing"], "max_tokens": 60}),
]  # fmt: skip


def _same(path: str, fields: Json) -> Body:
    def body(target: ServerUnderTest) -> None:
        whole = target.ask(path, {"temperature": 0, "max_tokens": 24} | fields).json()["choices"]
        stream = target.stream(path, **fields)
        for one in whole:
            text = one["text"] if path == TEXT else one["message"]["content"]
            expect_equal(stream.text(one["index"]), text, "the stream's text")
            expect_equal(stream.reasons(one["index"]), [one["finish_reason"]], "the finish reasons")

    return body


for _name, _path, _fields in SAME:
    add(Check(f"streaming: the text is that of the whole: {_name}", _same(_path, _fields)))


@check("streaming: the role comes with the first token", ours=True)
def _role(target: ServerUnderTest) -> None:
    deltas = [one["delta"] for one in target.stream(CHAT).choices()]
    expect(deltas[0].get("content"), "the first frame has no text")
    roles = [delta.get("role") for delta in deltas]
    expect_equal(roles, ["assistant"] + [None] * (len(roles) - 1), "the roles")


@check("streaming: the role of each of several answers")
def _roles(target: ServerUnderTest) -> None:
    stream = target.stream(CHAT, n=2)
    for index in (0, 1):
        roles = [one["delta"]["role"] for one in stream.choices(index) if one["delta"].get("role")]
        expect(set(roles) == {"assistant"}, f"the roles of answer {index} are {roles}")


@check("streaming: one finish reason, in the last frame with choices")
def _reason(target: ServerUnderTest) -> None:
    for path in (CHAT, TEXT):
        stream = target.stream(path, **USAGE)
        choices = stream.choices()
        expect_equal(len(stream.reasons()), 1, "the number of finish reasons")
        expect(choices[-1]["finish_reason"], "the last frame with choices has no finish reason")


@check("streaming: frames of one answer agree on id, object, created and model")
def _heads(target: ServerUnderTest) -> None:
    for path, kind in ((CHAT, "chat.completion.chunk"), (TEXT, "text_completion")):
        frames = target.stream(path, **USAGE).frames
        heads = {(frame["id"], frame["object"], frame["created"], frame["model"]) for frame in frames}
        expect_equal(len(heads), 1, "the number of different heads")
        expect_equal(frames[0]["object"], kind, "object")


@check("streaming: include_usage adds one last frame without choices")
def _usage(target: ServerUnderTest) -> None:
    for path in (CHAT, TEXT):
        stream = target.stream(path, **USAGE)
        *others, last = stream.frames
        expect_equal(last["choices"], [], "choices of the last frame")
        expect(all(frame["choices"] for frame in others), "an earlier frame has no choices")
        expect(not any(frame.get("usage") for frame in others), "an earlier frame has usage")
        expect(last["usage"]["completion_tokens"] > 0, "no completion tokens were counted")


@check("streaming: usage is that of the whole")
def _same_usage(target: ServerUnderTest) -> None:
    whole = target.chat(messages=STORY, max_tokens=24)["usage"]
    usage = target.stream(CHAT, messages=STORY, **USAGE).frames[-1]["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        expect_equal(usage[name], whole[name], name)


@check("streaming: usage comes only if asked for")
def _no_usage(target: ServerUnderTest) -> None:
    for fields in ({}, {"stream_options": None}, {"stream_options": {"include_usage": False}}):
        frames = target.stream(CHAT, **fields).frames
        expect(not any(frame.get("usage") for frame in frames), "a frame has usage")
        expect(all(frame["choices"] for frame in frames), "a frame has no choices")


@check("streaming: continuous_usage_stats counts in every frame")
def _continuous(target: ServerUnderTest) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    frames = target.stream(CHAT, stream_options=options).frames
    counts = [frame["usage"]["completion_tokens"] for frame in frames]
    expect(counts == sorted(counts) and counts[0] >= 1, f"the counts are {counts}")
    expect_equal(frames[-1]["choices"], [], "choices of the last frame")


@check("streaming: every token of a greedy answer has a frame of its own")
def _frames(target: ServerUnderTest) -> None:
    stream = target.stream(CHAT, messages=STORY, max_tokens=20, ignore_eos=True, **USAGE)
    frames, tokens = len(stream.choices()), stream.frames[-1]["usage"]["completion_tokens"]
    expect(tokens - 3 <= frames <= tokens + 2, f"{frames} frames for {tokens} tokens")


@check("streaming: headers that forbid buffering")
def _headers(target: ServerUnderTest) -> None:
    headers = target.stream(CHAT, headers={"Accept-Encoding": "gzip, br"}).headers
    expect(headers["content-type"].startswith("text/event-stream"), f"content-type is {headers['content-type']}")
    expect("content-encoding" not in headers, "the stream is compressed")


@check("streaming: X-Accel-Buffering no and Cache-Control no-cache", ours=True)
def _proxies(target: ServerUnderTest) -> None:
    headers = target.stream(CHAT).headers
    expect_equal(headers.get("x-accel-buffering"), "no", "x-accel-buffering")
    expect("no-cache" in headers.get("cache-control", ""), "cache-control is not no-cache")


@check("streaming: frames are events, each followed by an empty line")
def _events(target: ServerUnderTest) -> None:
    lines = target.stream(CHAT).lines
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        expect(line == "" or line.startswith(("data: ", ":")), f"a line {line[:40]!r}")
        expect(not line.startswith("data: ") or following == "", "two frames without an empty line between")


@check("streaming: nothing follows [DONE]")
def _done(target: ServerUnderTest) -> None:
    lines = [line for line in target.stream(CHAT).lines if line]
    expect_equal(lines.count("data: [DONE]"), 1, "the number of [DONE]")
    expect_equal(lines[-1], "data: [DONE]", "the last line")


@check("streaming: no half characters")
def _halves(target: ServerUnderTest) -> None:
    for seed in range(3):
        stream = target.stream(CHAT, messages=STORY, temperature=2, seed=seed, max_tokens=100)
        whole = target.chat(messages=STORY, temperature=2, seed=seed, max_tokens=100)["choices"][0]["message"]["content"]
        expect_equal(stream.text().count("\ufffd"), whole.count("\ufffd"), "the number of replacement characters")


@check("streaming: return_progress tells how much of the prompt was read", ours=True)
def _progress(target: ServerUnderTest) -> None:
    messages = [{"role": "user", "content": "Tell me a story about a fox and a hen. " * 60}]
    frames = target.stream(CHAT, messages=messages, return_progress=True).frames
    told = [frame["prompt_progress"] for frame in frames if "prompt_progress" in frame]
    expect(told, "no frame has prompt_progress")
    expect(all(set(one) >= {"total", "processed", "cache"} for one in told), f"a frame has {told[0]}")
    expect(all(one["processed"] <= one["total"] for one in told), "more was read than there is")


@check("streaming: return_token_ids in frames add up to those of the whole", ours=True)
def _token_ids(target: ServerUnderTest) -> None:
    whole = target.complete(return_token_ids=True)["choices"][0]["token_ids"]
    stream = target.stream(TEXT, return_token_ids=True, max_tokens=8)
    expect_equal([one for choice in stream.choices() for one in choice.get("token_ids") or []], whole, "the ids")
