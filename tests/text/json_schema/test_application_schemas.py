"""Schemas that real applications send compile, and bind answers exactly; or the message names keyword and place."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from jsonschema.validators import validator_for
from pydantic import BaseModel

from orcinus.errors import RequestError
from orcinus.text.tools import FORMS
from orcinus.text.tools.tool_call import Tool, ToolChoice
from tests.examples import fewer
from tests.product import part
from tests.text.json_schema import application_cases, pydantic_cases
from tests.text.json_schema.cases import Case
from tests.text.json_schema.grammar import grammar_of, writable
from tests.text.tools.constrained import accepts, walk

CASES: dict[str, Any] = {**pydantic_cases.CASES, **application_cases.CASES}
SEEDS = range(fewer(2))
SOME = [*CASES][::3]


def case_of(name: str) -> Case:
    found = CASES[name]
    return found() if callable(found) else found


@pytest.mark.parametrize("name", CASES)
def test_a_schema_binds_answers_exactly_or_is_refused_with_its_place(name: str) -> None:
    case = case_of(name)
    if case.refused:
        with pytest.raises(RequestError) as refused:
            grammar_of(case.schema)
        assert str(refused.value).startswith(case.refused)
        return
    grammar = grammar_of(case.schema)
    assert [one for one in case.right if not writable(grammar, one)] == []
    assert [one for one in case.wrong if writable(grammar, one)] == []
    validator = validator_for(case.schema)(case.schema)
    for seed in SEEDS if case.standard else ():
        answer = walk(grammar, seed)
        if answer is not None:
            assert [error.message for error in validator.iter_errors(json.loads(answer))] == [], answer


@pytest.mark.parametrize("name", part(*SOME, full=[name for name in CASES if name not in SOME]))
def test_the_same_holds_of_the_arguments_of_tools(name: str) -> None:
    """Those of a strict tool with `auto`, and of any tool that must be called."""
    case = case_of(name)
    if not isinstance(case.schema, dict) or case.schema.get("type") != "object":
        return  # arguments are an object
    form = FORMS["hermes"]
    for tool, choice in [(Tool("f", None, case.schema, strict=True), "auto"), (Tool("f", None, case.schema), "required")]:
        if case.refused:
            with pytest.raises(RequestError, match=re.escape(f"tools[0].function.parameters: {case.refused}")):
                form.grammar((tool,), ToolChoice(choice), parallel=False, token_id={}.get)
            continue
        grammar = form.grammar((tool,), ToolChoice(choice), parallel=False, token_id={}.get)
        assert grammar is not None
        for values, could in [(case.right, True), (case.wrong, False)] if choice == "required" else []:
            calls = [
                f'<tool_call>\n{{"name": "f", "arguments": {json.dumps(one, ensure_ascii=False)}}}\n</tool_call>'
                for one in values
            ]
            assert [accepts(grammar, call) for call in calls] == [could] * len(calls)


@pytest.mark.parametrize("model", [pydantic_cases.Moments, pydantic_cases.Owner, pydantic_cases.Maps])
def test_pydantic_reads_what_is_written_under_its_schema(model: type[BaseModel]) -> None:
    grammar = grammar_of(model.model_json_schema())
    answers = [answer for seed in range(4) if (answer := walk(grammar, seed)) is not None]
    assert answers
    for answer in answers:
        model.model_validate_json(answer)
