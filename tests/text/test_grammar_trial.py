"""Grammars that are too much for llguidance cost one process, and are refused by the name of their form."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text import grammar_trial
from orcinus.text.bounded_process import BoundedProcesses
from orcinus.text.grammar_source import MOST_CHARACTERS, GrammarVocabulary, to_llguidance
from orcinus.text.grammar_trial import try_form
from orcinus.text.grammars import KEPT_CHARACTERS, KEPT_COMPILED, Grammars
from orcinus.tiny import MODEL_DIR
from tests.product import part

TOKENIZER = (MODEL_DIR / "tokenizer.json").read_text(encoding="utf-8")
EOS = (2,)


@pytest.fixture(autouse=True, scope="module")
def patient() -> Iterator[None]:
    """A machine may be busy: what says no here is the work, not the time."""
    usual = grammar_trial._processes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammar_trial, "_processes", BoundedProcesses(usual.program, replace(usual.limits, seconds=60.0)))
        yield


def tried(**form: Any) -> str:
    return try_form(StructuredOutputs(**form), TOKENIZER, EOS)


def rules_in_a_row(count: int) -> str:
    rules = "".join(f'r{index}: "x" r{index + 1}\n' for index in range(count))
    return f'start: r0\n{rules}r{count}: "y"'


def references_in_a_row(count: int) -> dict[str, Any]:
    nodes = {f"d{index}": {"type": "array", "items": {"$ref": f"#/$defs/d{index + 1}"}} for index in range(count)}
    return {"$ref": "#/$defs/d0", "$defs": nodes | {f"d{count}": {"type": "null"}}}


def optional(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{index}": {"type": "integer"} for index in range(count)}}


TOO_MUCH: dict[str, tuple[dict[str, Any], str]] = {  # a form, and what is said of it
    "a stack overflow in rules": ({"grammar": rules_in_a_row(5000)}, "too large or nested too deeply"),
    "a stack overflow in references": ({"json": references_in_a_row(5000)}, "too large or nested too deeply"),
    "a long constant": ({"json": {"const": "abc " * 15_000}}, "too long to follow"),
    "a repeated long constant": ({"regex": "(" + "abcd" * 1000 + "){50}"}, "too long to follow"),
    "nested counts": ({"regex": "((((a{1,50}){1,50}){1,50}){1,50}){1,50}"}, "too long to follow"),
    "an ambiguous rule": ({"grammar": "root ::= s\ns ::= s s s | s s | [a-z ]"}, "too long to follow"),
    "a long expression": ({"regex": "(a|b?)+" * 1500}, "too large"),
    "nested parentheses": ({"regex": "(" * 10_000 + "a" + ")" * 10_000}, "invalid regex"),
    "nested groups": ({"grammar": "root ::= " + "(" * 5000 + '"a"' + ")" * 5000}, "nested too deeply"),
    "a deep schema": ({"json": '{"items":' * 300 + "{}" + "}" * 300}, "nested too deeply"),
    "many alternatives": ({"json": {"anyOf": [{"type": "integer"}] * 20_000}}, "too large"),
    "a number of 300 digits": ({"json": {"type": "integer", "minimum": 10**300}}, "a number in it is too large"),
    "too many characters": ({"json": {"const": "x" * MOST_CHARACTERS}}, "characters are more than"),
}
# Others are refused for the same reason.
ALIKE = ("a stack overflow in references", "a repeated long constant", "nested parentheses", "nested groups")


@pytest.mark.parametrize("name", part(*(name for name in TOO_MUCH if name not in ALIKE), full=ALIKE))
def test_a_form_that_is_too_much_is_refused_by_its_name(name: str) -> None:
    form, said = TOO_MUCH[name]
    (kind,) = form
    with pytest.raises(RequestError, match=said) as refused:
        tried(**form)
    assert refused.value.field == kind
    assert str(refused.value).startswith(f"{kind}: ")
    assert len(str(refused.value)) < 400
    assert "ab?" in tried(regex="ab?")


@pytest.mark.parametrize(
    "form",
    [
        {"json": {"type": "string", "maxLength": 10**9}},
        {"json": {"type": "array", "items": {"type": "integer"}, "minItems": 10**9}},
        {"json": {"enum": [f"value {index} {index * 7919}" for index in range(5000)]}},
        {"json": references_in_a_row(300)},
        {"json": optional(400)},
        {"choice": [f"choice number {index}" for index in range(10_000)]},
        {"regex": "(a|b)*a(a|b){40}"},
        {"grammar": 'root ::= root "a" | "a"'},
    ],
)
def test_a_large_form_that_costs_little_is_taken(form: dict[str, Any]) -> None:
    assert tried(**form)


def test_compiling_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = grammar_trial._processes
    monkeypatch.setattr(grammar_trial, "_processes", BoundedProcesses(usual.program, replace(usual.limits, seconds=0.3)))
    with pytest.raises(RequestError, match="json: compiling it takes longer than"):
        tried(json=optional(5000))


def test_a_process_learns_every_vocabulary() -> None:
    other = json.loads(TOKENIZER)
    other["added_tokens"].append({**other["added_tokens"][0], "id": len(other["model"]["vocab"]) + 50, "content": "<other>"})
    for tokenizer in (TOKENIZER, json.dumps(other), TOKENIZER):
        assert try_form(StructuredOutputs(regex="a"), tokenizer, EOS)
    with pytest.raises(RequestError, match="llguidance cannot read this model's tokenizer") as refused:
        try_form(StructuredOutputs(regex="a"), "{}", EOS)
    assert refused.value.field == "structured_outputs"


def test_what_was_refused_is_refused_again_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    grammars, wrong = Grammars(lambda: GrammarVocabulary(TOKENIZER, EOS, 2048)), StructuredOutputs(regex="(")
    assert not grammars.knows(wrong)
    for _ in range(2):
        with pytest.raises(RequestError, match="^regex: ") as refused:
            grammars.check(wrong)
        assert refused.value.field == "regex"
        monkeypatch.setattr(grammar_trial, "_processes", None)
    assert grammars.knows(wrong)


@pytest.mark.parametrize(
    "choice", ["a", "ab", "a.b", "(x|y)", "[z]", "50% \\ of $1", "{2}", "a/b", "tab\tline\n", "^é-~&#", '"q"']
)
def test_a_choice_is_its_own_characters(choice: str) -> None:
    grammars = Grammars(lambda: GrammarVocabulary(TOKENIZER, EOS, 2048))
    matcher = grammars.matcher(grammars.check(StructuredOutputs(choice=("a", "ab", choice, "aXb"))))
    from llguidance import LLTokenizer

    tokens = LLTokenizer(TOKENIZER).tokenize_str(choice)
    assert matcher.try_consume_tokens(tokens) == len(tokens)
    assert matcher.is_accepting()


def test_what_is_kept_of_grammars_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number, and by characters; the one used last stays. What was dropped compiles again."""
    kept, found = Grammars(lambda: GrammarVocabulary(TOKENIZER, EOS, 2048)), []
    monkeypatch.setattr("orcinus.text.grammars.try_form", lambda wanted, *_: to_llguidance(wanted))
    for number in range(KEPT_COMPILED + 20):
        found.append(kept.check(StructuredOutputs(regex=f"a{number}")))
        kept.matcher(found[-1])
        kept.matcher(found[0])
    assert list(kept._compiled) == [*found[-KEPT_COMPILED + 1 :], found[0]]
    large = [StructuredOutputs(regex=f"a{number}" + "x" * 200_000) for number in range(KEPT_CHARACTERS // 400_000 + 3)]
    for wanted in large:
        kept.check(wanted)
    assert not kept.knows(large[0])
    assert kept.knows(large[-1])
    assert not kept.matcher(found[5]).is_error()
