"""Answers keep to their form in every company, and cost their neighbours nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orcinus import LLM, SamplingParams, StructuredOutputs
from orcinus.core.kv import KV_MANAGERS
from orcinus.core.policies import POLICIES
from orcinus.errors import RequestError
from tests.product import in_turn, part

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PLAIN = SamplingParams(max_tokens=24, seed=5)
FORMS = {
    "json": StructuredOutputs(json=PERSON),
    "regex": StructuredOutputs(regex="[0-9]{3}-[a-f]{4}"),
    "choice": StructuredOutputs(choice=("yes", "no", "perhaps")),
    "gbnf": StructuredOutputs(grammar='root ::= "n" [0-9]+ "."'),
    "lark": StructuredOutputs(grammar='start: "n" /[0-9]{1,3}/ "."'),
    "json_object": StructuredOutputs(json_object=True),
    "any JSON": StructuredOutputs(json=True),
}


def fits(form: str, text: str) -> bool:
    """Whether a finished answer has the form."""
    if form == "json":
        found = json.loads(text)
        return set(found) == {"name", "age"} and len(found["name"]) <= 12 and 0 <= found["age"] <= 150
    if form in ("json_object", "any JSON"):
        return isinstance(json.loads(text), dict if form == "json_object" else object)
    patterns = {"regex": "[0-9]{3}-[a-f]{4}", "choice": "yes|no|perhaps", "gbnf": r"n[0-9]+\.", "lark": r"n[0-9]{1,3}\."}
    return re.fullmatch(patterns[form], text) is not None


def asked(form: str, **params: Any) -> SamplingParams:
    return SamplingParams(**{"max_tokens": 120, "seed": 7, "structured_outputs": FORMS[form], **params})


@pytest.fixture(scope="module")
def llm() -> Iterator[LLM]:
    with LLM(dtype="float32", max_batch_size=8) as shared:
        yield shared


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_finished_answer_has_its_form(llm: LLM, form: str, temperature: float) -> None:
    answer = llm.generate("Tell me:", asked(form, temperature=temperature))[0]
    if answer.finish_reason == "length":
        assert form in ("json_object", "any JSON", "gbnf"), "the others are bounded"
        return
    assert answer.finish_reason == "stop"
    assert fits(form, answer.text)


JOBS = [
    ("Who is it? " * 4, asked("json")),
    ("Once upon a time", PLAIN),
    ("A code:", asked("regex")),
    ("Well?", asked("choice")),
    ("The sea", PLAIN),
    ("And who are you? " * 3, asked("json", seed=8)),
]


@pytest.fixture(scope="module")
def alone(llm: LLM) -> list[tuple[int, ...]]:
    """The answer to each of JOBS without company."""
    return [llm.generate(prompt, job)[0].token_ids for prompt, job in JOBS]


@pytest.mark.parametrize(
    ("policy", "kv"), in_turn([name for name in POLICIES if name not in ("faster-transformer",)], list(KV_MANAGERS))
)
def test_every_policy_and_manager_gives_the_same_answers(policy: str, kv: str, alone: list[tuple[int, ...]]) -> None:
    """With memory so short that requests are preempted, and prompts in chunks where the policy cuts them."""
    blocks = 32 if kv == "buddy" else 24  # its pieces are powers of two
    with LLM(dtype="float32", policy=policy, kv=kv, max_batch_size=3, num_blocks=blocks, block_size=8) as engine:
        together = engine.generate(*map(list, zip(*JOBS, strict=True)))
    assert [one.token_ids for one in together] == alone
    for one, form in zip(together, ("json", None, "regex", "choice", None, "json"), strict=True):
        assert form is None or fits(form, one.text)


def test_each_of_n_answers_follows_a_grammar_of_its_own(llm: LLM) -> None:
    (output,) = llm.generate("Who?", asked("json", n=4))
    assert all(fits("json", one.text) for one in output.outputs)
    assert len({one.text for one in output.outputs}) > 1


def test_log_probabilities_are_those_of_the_model_before_the_mask(llm: LLM) -> None:
    """As in vLLM: the first token is forced, and still not certain for the model."""
    (answer,) = llm.generate("Who?", asked("gbnf", logprobs=2))
    assert answer.logprobs is not None
    free = llm.generate("Who?", SamplingParams(max_tokens=1, temperature=0, logprobs=2))[0].logprobs
    assert free is not None
    assert answer.logprobs[0].top == free[0].top
    assert answer.logprobs[0].logprob < free[0].top[0][1]


def test_a_stop_string_ends_the_answer_before_its_form_is_complete(llm: LLM) -> None:
    (answer,) = llm.generate("A code:", asked("regex", stop="-"))
    assert re.fullmatch("[0-9]{3}", answer.text)
    assert answer.finish_reason == "stop"


def test_a_finished_form_ends_the_answer_whatever_else_asks_for_more(llm: LLM) -> None:
    (answer,) = llm.generate("Well?", asked("choice", ignore_eos=True, min_tokens=50))
    assert answer.finish_reason == "stop"
    assert fits("choice", answer.text)


def test_a_cut_answer_is_a_beginning_of_its_form(llm: LLM) -> None:
    (whole,), (cut,) = llm.generate("A code:", asked("regex")), llm.generate("A code:", asked("regex", max_tokens=3))
    assert cut.finish_reason == "length"
    assert cut.token_ids == whole.token_ids[:3]


def test_penalties_and_biases_cannot_leave_the_form(llm: LLM) -> None:
    assert llm.tokenizer is not None
    (wanted,) = llm.tokenizer.encode("x", special=False)
    (answer,) = llm.generate(
        "A code:", asked("regex", logit_bias={wanted: 100.0}, repetition_penalty=1.5, presence_penalty=2.0)
    )
    assert fits("regex", answer.text)


@pytest.mark.parametrize(
    ("form", "said"),
    part(
        ({"json": {"type": "objec"}}, "json: .*objec"),
        ({"json": {"not": {"type": "string"}}}, "json: .*not"),
        full=[
            ({"json": {"type": "array", "uniqueItems": True}}, "json: .*uniqueItems"),
            ({"json": {"$ref": "#/$defs/none"}}, r"json: .*\$defs/none"),
            ({"json": False}, "allows no answer"),
            ({"regex": "("}, "regex: .*invalid regex"),
            ({"regex": "(?=a)b"}, "regex: .*invalid regex"),
            ({"grammar": "start: nothing"}, 'grammar: .*"nothing"'),
            ({"grammar": 'root ::= "a'}, "grammar: "),
            ({"json": '{"enum": [' + ",".join(['"' + "x" * 100 + '"'] * 12_000) + "]}"}, "json: .*more than"),
        ],
    ),
)
def test_a_form_that_cannot_be_followed_is_refused_with_its_keyword(llm: LLM, form: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        llm.generate("x", replace(PLAIN, structured_outputs=StructuredOutputs(**form)))
    assert refused.value.field == next(iter(form))
    assert llm.generate("x", PLAIN)[0].finish_reason in ("stop", "length")


def test_a_thinking_budget_belongs_to_chats(llm: LLM) -> None:
    with pytest.raises(RequestError, match="belongs to chats"):
        llm.generate("x", replace(PLAIN, thinking_token_budget=5))


@pytest.mark.full
def test_ranks_follow_the_same_grammars() -> None:
    prompts, jobs = ["Who?", "A code:", "Once"], [asked("json"), asked("regex"), PLAIN]
    with LLM(dtype="float32") as one:
        wanted = [answer.token_ids for answer in one.generate(prompts, jobs)]
    with LLM(dtype="float32", tp=2, pp=2) as mesh:
        assert [answer.token_ids for answer in mesh.generate(prompts, jobs)] == wanted
