"""Checks of the counts in `usage`."""

from __future__ import annotations

from orcinus.conformance.registry import check
from orcinus.conformance.target import OPENING, STORY, ServerUnderTest
from orcinus.conformance.verdict import expect, expect_equal


@check("usage: the total is the sum")
def _sum(target: ServerUnderTest) -> None:
    for usage in (target.chat(messages=STORY, max_tokens=7)["usage"], target.complete()["usage"]):
        total = usage["prompt_tokens"] + usage["completion_tokens"]
        expect_equal(usage["total_tokens"], total, "total_tokens")


@check("usage: a prompt counts as many tokens as it has")
def _prompt(target: ServerUnderTest) -> None:
    expect_equal(target.complete()["usage"]["prompt_tokens"], len(target.tokens(OPENING)), "prompt_tokens")


@check("usage: a longer chat counts more")
def _longer(target: ServerUnderTest) -> None:
    short, long = (target.chat(messages=STORY * i, max_tokens=1)["usage"]["prompt_tokens"] for i in (1, 3))
    expect(long > 2 * short, f"{long} tokens for three times the messages of {short}")


@check("usage: several prompts count together")
def _several(target: ServerUnderTest) -> None:
    one, two = (target.complete(prompt=prompt)["usage"]["prompt_tokens"] for prompt in (OPENING, "The sea is"))
    both = target.complete(prompt=[OPENING, "The sea is"], max_tokens=3)["usage"]
    expect_equal(both["prompt_tokens"], one + two, "prompt_tokens")
    expect_equal(both["completion_tokens"], 6, "completion_tokens")


@check("usage: n answers count their prompt once")
def _answers(target: ServerUnderTest) -> None:
    one = target.complete(max_tokens=3)["usage"]
    three = target.complete(max_tokens=3, n=3, temperature=1, ignore_eos=True)["usage"]
    expect_equal(three["prompt_tokens"], one["prompt_tokens"], "prompt_tokens")
    expect_equal(three["completion_tokens"], 9, "completion_tokens")


@check("usage: a cached prompt counts in full, and says what was cached")
def _cached(target: ServerUnderTest) -> None:
    prompt = "A fox and a hen went to the sea, and there they saw a boat. " * 8
    first, second = (target.complete(prompt=prompt)["usage"] for _ in range(2))
    expect_equal(second["prompt_tokens"], first["prompt_tokens"], "prompt_tokens")
    cached = (second.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    expect(0 <= cached < second["prompt_tokens"], f"{cached} cached tokens of {second['prompt_tokens']}")
