"""Checks that requests in one batch do not affect each other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from orcinus.conformance.registry import Body, Check, add
from orcinus.conformance.structured_output import BOUND
from orcinus.conformance.target import CHAT, STORY, Json, ServerUnderTest
from orcinus.conformance.tools import CALLING
from orcinus.conformance.verdict import expect_equal

INNOCENT: Json = {"messages": STORY, "temperature": 0, "max_tokens": 30}
NEIGHBOURS: dict[str, Json] = {
    "a bias": {"logit_bias": {"300": 100}},
    "penalties": {"presence_penalty": 2, "frequency_penalty": 2, "repetition_penalty": 1.5},
    "wild sampling": {"temperature": 2, "top_p": 0.5, "seed": 1},
    "a stop string": {"stop": [" a", "e"]},
    "logprobs": {"logprobs": True, "top_logprobs": 20},
    "an end of its own": {"max_tokens": 1},
    "a schema": BOUND,
    "a call of a tool": CALLING,
    "a refusal": {"temperature": 5},
}


def _beside(fields: Json) -> Body:
    def body(target: ServerUnderTest) -> None:
        alone = target.ask(CHAT, INNOCENT).json()["choices"][0]["message"]["content"]
        with ThreadPoolExecutor(8) as pool:
            others = [pool.submit(target.post, CHAT, INNOCENT | fields) for _ in range(3)]
            innocent = [pool.submit(target.ask, CHAT, INNOCENT) for _ in range(2)]
            more = [pool.submit(target.post, CHAT, INNOCENT | fields) for _ in range(3)]
            texts = {one.result().json()["choices"][0]["message"]["content"] for one in innocent}
            for one in others + more:
                one.result()
        expect_equal(texts, {alone}, "the text beside it")

    return body


for _name, _fields in NEIGHBOURS.items():
    add(Check(f"neighbours: {_name} next door changes nothing", _beside(_fields)))
