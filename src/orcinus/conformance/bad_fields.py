"""Checks of invalid field values: status, named field, unharmed server."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from orcinus.conformance.registry import Check, add, check
from orcinus.conformance.shapes import expect_error
from orcinus.conformance.target import CHAT, HI, OPENING, TEXT, Json, ServerUnderTest
from orcinus.conformance.verdict import expect


@dataclass(frozen=True, slots=True)
class BadCase:
    """An invalid request, and the answer that must come back."""

    name: str
    path: str
    fields: Json | Callable[[ServerUnderTest], Json]
    param: str | None
    status: int | set[int] = 400
    code: str | None = None
    ours: bool = False

    def __call__(self, target: ServerUnderTest) -> None:
        target.remember()
        start: Json = {"prompt": OPENING} if self.path == TEXT else {"messages": HI}
        fields = self.fields(target) if callable(self.fields) else self.fields
        body = {"max_tokens": 2} | start | fields
        expect_error(target.post(self.path, {name: body[name] for name in body if body[name] is not LEFT_OUT}), *self._wanted)
        target.unharmed()

    @property
    def _wanted(self) -> tuple[int | set[int], str | None, str | None]:
        return self.status, self.param, self.code


LEFT_OUT: Any = object()  # the value of a field that is not sent at all


def text(
    name: str, param: str | None, *, status: int = 400, code: str | None = None, ours: bool = False, **fields: Any
) -> BadCase:
    """A case that is a wrong completion."""
    return BadCase(name, TEXT, fields, param, status, code, ours)


def chat(
    name: str, param: str | None, *, status: int = 400, code: str | None = None, ours: bool = False, **fields: Any
) -> BadCase:
    """A case that is a wrong chat."""
    return BadCase(name, CHAT, fields, param, status, code, ours)


def said(*content: Any) -> list[Json]:
    """A user's messages with these contents."""
    return [{"role": "user", "content": one} for one in content]


def add_rows(subject: str, rows: list[BadCase]) -> None:
    """Register every row as a check."""
    for row in rows:
        status = row.status if isinstance(row.status, int) else " or ".join(map(str, sorted(row.status)))
        add(Check(f"{subject}: {row.name} is {status}", row, row.ours))


TOO_LONG: list[tuple[str, str, Callable[[ServerUnderTest], Json], str | None]] = [
    ("a prompt longer than the context", TEXT, lambda target: {"prompt": "word " * target.context * 2}, "prompt"),
    ("ids longer than the context", TEXT, lambda target: {"prompt": [5] * (target.context + 1)}, "prompt"),
    ("prompt and max_tokens beyond the context", TEXT, lambda target: {"max_tokens": target.context}, None),
    ("a chat longer than the context", CHAT, lambda target: {"messages": said("word " * target.context * 2)}, "messages"),
]

PROMPTS = [
    text("no prompt", "prompt", prompt=LEFT_OUT),
    text("prompt null", "prompt", prompt=None),
    text("an empty prompt", "prompt", prompt=""),
    text("no prompts", "prompt", prompt=[]),
    text("an empty list of ids", "prompt", prompt=[[]]),
    text("an empty string among prompts", "prompt[1]", prompt=["Hi", ""]),
    text("an empty list among prompts", "prompt[1]", prompt=[[5], []]),
    text("token id -1", "prompt[1]", prompt=[5, -1]),
    text("token id 10**9", "prompt[2]", prompt=[5, 6, 10**9]),
    text("token id 10**30", "prompt[2]", prompt=[5, 6, 10**30]),
    text("token id -1 in the second prompt", "prompt[1][0]", prompt=[[5], [-1]]),
    text("token id true", "prompt", prompt=[5, True]),
    text("a list of text and ids", "prompt", prompt=["a", 1]),
    text("a number as a prompt", "prompt", prompt=7),
    text("an object as a prompt", "prompt", prompt={"text": "Hi"}),
    text("100,000 prompts", "prompt", prompt=["x"] * 100_000),
    text("65 prompts", "prompt", ours=True, prompt=["x"] * 65),
    *(BadCase(name, path, fields, param, 400, "context_length_exceeded") for name, path, fields, param in TOO_LONG),
    text("an unknown model", "model", status=404, code="model_not_found", model="no-such-model"),
    chat("an unknown model in a chat", "model", status=404, code="model_not_found", model="no-such-model"),
    text("a number as a model", "model", model=7),
    text("suffix", "suffix", suffix="and they lived happily."),
]

LENGTHS = [
    text("max_tokens 0", "max_tokens", max_tokens=0),
    text("max_tokens -1", "max_tokens", max_tokens=-1),
    text("max_tokens 10**12", "max_tokens", max_tokens=10**12),
    text("max_tokens 'many'", "max_tokens", max_tokens="many"),
    text("max_tokens 2.5", "max_tokens", max_tokens=2.5),
    text("max_tokens true", "max_tokens", max_tokens=True),
    chat("max_completion_tokens 0", "max_completion_tokens", max_completion_tokens=0),
    chat("max_completion_tokens 'many'", "max_completion_tokens", max_completion_tokens="many"),
    text("min_tokens over max_tokens", "min_tokens", min_tokens=5),
    text("min_tokens -1", "min_tokens", min_tokens=-1),
    chat("min_tokens with max_tokens null", "min_tokens", min_tokens=5, max_tokens=None),
    text("101 stop strings", "stop", stop=[str(i) for i in range(101)]),
    text("stop ''", "stop", stop=""),
    text("stop ['a', '']", "stop", stop=["a", ""]),
    text("stop 3", "stop", stop=3),
    text("stop ['a', 3]", "stop[1]", stop=["a", 3]),
    text("a stop string of 257 characters", "stop", ours=True, stop="x" * 257),
    text("stop_token_ids out of range", "stop_token_ids", stop_token_ids=[5, 10**9]),
    text("stop_token_ids -1", "stop_token_ids", stop_token_ids=[-1]),
    text("stop_token_ids 'a'", "stop_token_ids", stop_token_ids="a"),
    text("ignore_eos 'yes'", "ignore_eos", ignore_eos="yes"),
    text("timeout 0", "timeout", ours=True, timeout=0),
]

SAMPLING = [
    *(text(f"temperature {value}", "temperature", temperature=value) for value in (-1, 2.5, 100, "hot", True)),
    *(text(f"top_p {value}", "top_p", top_p=value) for value in (0, -0.5, 1.5, "x")),
    *(text(f"top_k {value}", "top_k", top_k=value) for value in (-5, 1.5)),
    *(text(f"min_p {value}", "min_p", min_p=value) for value in (-1, 2)),
    *(text(f"n {value}", "n", n=value) for value in (0, -1, 10**6, 1.5)),
    text("n 129", "n", ours=True, n=129),
    text("best_of 2 with n 1", "best_of", best_of=2, n=1),
    text("seed 2**70", "seed", seed=2**70),
    text("seed -2**70", "seed", seed=-(2**70)),
    text("seed 'x'", "seed", seed="x"),
    text("seed 1.5", "seed", seed=1.5),
    *(text(f"presence_penalty {value}", "presence_penalty", presence_penalty=value) for value in (5, -5, "x")),
    *(text(f"frequency_penalty {value}", "frequency_penalty", frequency_penalty=value) for value in (5, -5)),
    text("repetition_penalty 0", "repetition_penalty", repetition_penalty=0),
    text("logit_bias of an unknown id", "logit_bias", logit_bias={"999999999": 1}),
    text("logit_bias of a text", "logit_bias", logit_bias={"fox": 1}),
    text("logit_bias with a text as value", "logit_bias", logit_bias={"5": "much"}),
    text("logit_bias as a list", "logit_bias", logit_bias=[1]),
    text("allowed_token_ids out of range", "allowed_token_ids", allowed_token_ids=[10**9]),
    text("bad_words of numbers", "bad_words", bad_words=[3]),
    text("bad_words ''", "bad_words", bad_words=[""]),
    text("logprobs 1000", "logprobs", logprobs=1000),
    text("logprobs -1", "logprobs", logprobs=-1),
    text("logprobs 'all'", "logprobs", logprobs="all"),
    chat("top_logprobs 50", "top_logprobs", logprobs=True, top_logprobs=50),
    chat("top_logprobs -1", "top_logprobs", logprobs=True, top_logprobs=-1),
    chat("top_logprobs without logprobs", "top_logprobs", top_logprobs=2),
    chat("logprobs 5 in a chat", "logprobs", logprobs=5),
    text("echo 'yes'", "echo", echo="yes"),
]

OPTIONS = [
    text("stream 'yes'", "stream", stream="yes"),
    text("stream_options without stream", "stream_options", stream_options={"include_usage": True}),
    text("stream_options with stream false", "stream_options", stream=False, stream_options={"include_usage": True}),
    text("stream_options 'usage'", "stream_options", stream=True, stream_options="usage"),
    text("include_usage 'yes'", "stream_options.include_usage", stream=True, stream_options={"include_usage": "yes"}),
    text("a wrong field of a stream", "max_tokens", stream=True, max_tokens=-1),
    text("priority 1.5", "priority", ours=True, priority=1.5),
    text("priority 10**12", "priority", ours=True, priority=10**12),
    text("a number as user", "user", user=5),
    text("request_id 5", "request_id", ours=True, request_id=5),
    text("a cache_salt of odd characters", "cache_salt", ours=True, cache_salt="ü\u0000"),
    text("a cache_salt of 1 MB", "cache_salt", ours=True, cache_salt="x" * 10**6),
]

add_rows("errors", [*PROMPTS, *LENGTHS, *SAMPLING, *OPTIONS])


@check("errors: 5,000,000 characters are 400 before they are tokenized")
def _characters(target: ServerUnderTest) -> None:
    target.remember()
    began = time.monotonic()
    expect_error(target.post(TEXT, {"prompt": "word " * 1_000_000, "max_tokens": 1}), {400, 413})
    took = time.monotonic() - began
    expect(took < 1, f"it took {took:.1f} s")
    target.unharmed()
