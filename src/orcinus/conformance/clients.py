"""Checks with the bodies that real clients send."""

from __future__ import annotations

from orcinus.conformance.registry import Body, Check, add, check
from orcinus.conformance.target import CHAT, HI, OPENING, TEXT, EventStream, Json, ServerUnderTest
from orcinus.conformance.verdict import expect, expect_equal

PARTS = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
TOKENS = 12
USAGE: Json = {"stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True}
STATS: Json = USAGE | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}, "stop": None}
CHAT_LENGTH, TEXT_LENGTH = {"max_completion_tokens": TOKENS}, {"max_tokens": TOKENS}
VLLM: Json = USAGE | {"temperature": 0.0}
NO_PENALTY: Json = {"frequency_penalty": 0, "presence_penalty": 0}

STREAMED: dict[str, tuple[str, Json]] = {
    "vllm bench serve, text": (TEXT, VLLM | TEXT_LENGTH | {"prompt": OPENING, "repetition_penalty": 1.0, "logprobs": None}),
    "vllm bench serve, chat": (CHAT, VLLM | CHAT_LENGTH | {"messages": PARTS}),
    "guidellm, chat": (CHAT, STATS | CHAT_LENGTH | TEXT_LENGTH | {"messages": PARTS}),
    "guidellm, text": (TEXT, STATS | TEXT_LENGTH | {"prompt": OPENING}),
    "aiperf, chat": (CHAT, USAGE | CHAT_LENGTH | {"messages": [PARTS[0] | {"name": "ann"}]}),
    "aiperf, text": (TEXT, USAGE | TEXT_LENGTH | {"prompt": [OPENING], "min_tokens": TOKENS}),
    "litellm": (CHAT, USAGE | TEXT_LENGTH | NO_PENALTY | {"messages": HI}),
}

GREEDY: Json = {"messages": HI, "max_tokens": TOKENS, "temperature": 0}
LEGACY: Json = TEXT_LENGTH | NO_PENALTY | {"prompt": [OPENING, "Hello"], "temperature": 0.7, "top_p": 1, "n": 1}

WHOLE: dict[str, tuple[str, Json]] = {
    "langchain, chat": (CHAT, CHAT_LENGTH | {"messages": HI, "stream": False}),
    "langchain, text": (TEXT, LEGACY | {"logprobs": None, "seed": None}),
    "lm-eval, chat": (CHAT, GREEDY | {"stop": ["\n\n", "Q:", "</s>", "<|im_end|>"], "seed": 1234}),
    "promptfoo": (CHAT, GREEDY),
    "AI SDK": (CHAT, GREEDY | {"stop": ["END"], "seed": 1}),
}


def _streamed(path: str, body: Json) -> Body:
    def run(target: ServerUnderTest) -> None:
        _counts(target.stream(path, **body))

    return run


def _counts(stream: EventStream) -> None:
    last = stream.frames[-1]
    expect_equal(last["choices"], [], "choices of the last frame")
    expect_equal(last["usage"]["completion_tokens"], TOKENS, "completion_tokens")
    expect(stream.text(), "no text")


def _whole(path: str, body: Json) -> Body:
    return lambda target: expect(target.ask(path, body).json()["choices"], "no choices")


for _name, (_path, _body) in STREAMED.items():
    add(Check(f"clients: {_name}", _streamed(_path, _body)))
for _name, (_path, _body) in WHOLE.items():
    add(Check(f"clients: {_name}", _whole(_path, _body)))


@check("clients: lm-eval, loglikelihood of ids")
def _loglikelihood(target: ServerUnderTest) -> None:
    prompts = [target.tokens(OPENING), target.tokens("The sea is blue")]
    body = {"prompt": prompts, "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    for choice, prompt in zip(target.ask(TEXT, body).json()["choices"], prompts, strict=True):
        values = choice["logprobs"]["token_logprobs"]
        expect_equal(len(values), len(prompt) + 1, "the number of logprobs")
        expect(values[0] is None and all(value <= 0 for value in values[1:]), "the first is not null, or one is above 0")


@check("clients: aiperf asks with X-Correlation-ID")
def _correlation(target: ServerUnderTest) -> None:
    answer = target.ask(CHAT, {"messages": HI, "max_tokens": 1}, {"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"})
    expect(answer.json()["choices"], "no choices")
