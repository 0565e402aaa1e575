"""The form of an answer is plain data, and a wrong one is refused by name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from orcinus.core.sampling_params import SamplingParams
from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestError


def test_a_schema_is_json_text_in_whatever_form_it_came() -> None:
    schema = {"type": "object", "properties": {"a": {"const": "é"}}}
    assert json.loads(str(StructuredOutputs(json=schema).json)) == schema
    assert StructuredOutputs(json=json.dumps(schema)).json == json.dumps(schema)
    assert StructuredOutputs(json=True).json == "true"


def test_a_list_of_choices_is_a_tuple() -> None:
    assert StructuredOutputs(choice=["yes", "no"]).choice == ("yes", "no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({}, "json", "exactly one of json, regex, choice, grammar, json_object; nothing is given"),
        ({"regex": "a", "choice": ["b"]}, "json", "regex and choice are given"),
        ({"json": "{"}, "json", "no JSON"),
        ({"json": "[1]"}, "json", r"an object, not \[1\]"),
        ({"json": 3}, "json", "not 3"),
        ({"json": {"a": {1, 2}}}, "json", "what JSON has"),
        ({"json": {"a": float("nan")}}, "json", "what JSON has"),
        ({"regex": ""}, "regex", "not empty"),
        ({"regex": 5}, "regex", "not 5"),
        ({"grammar": ""}, "grammar", "not empty"),
        ({"choice": []}, "choice", "1 to 10000 strings"),
        ({"choice": "yes"}, "choice", "a list of strings"),
        ({"choice": ["a", ""]}, "choice", "none of them empty"),
        ({"choice": ["a"] * 10_001}, "choice", "1 to 10000"),
        ({"json_object": "yes"}, "json_object", "True or False"),
    ],
)
def test_what_is_no_form_is_refused_by_name(given: dict[str, Any], field: str, said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        StructuredOutputs(**given)
    assert refused.value.field == field


@pytest.mark.parametrize("given", [{"json": {"type": "string"}}, {"choice": ("a", "b")}, {"json_object": True}])
def test_parameters_with_a_form_travel_as_messages(given: dict[str, Any]) -> None:
    params = SamplingParams(structured_outputs=StructuredOutputs(**given), thinking_token_budget=3)
    wire = msgspec.msgpack.encode(params, enc_hook=int)
    assert msgspec.msgpack.decode(wire, type=SamplingParams) == params


@pytest.mark.parametrize(
    "given", [{"structured_outputs": {"json": "{}"}}, {"thinking_token_budget": -1}, {"thinking_token_budget": 1.5}]
)
def test_parameters_refuse_what_is_none(given: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match=next(iter(given))):
        SamplingParams(**given)
