"""Any form of an answer compiles, or is refused in one line, within the limits of its process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text import grammar_trial
from orcinus.text.bounded_process import BoundedProcesses
from orcinus.text.grammar_source import MOST_CHARACTERS
from orcinus.text.grammar_trial import try_form
from orcinus.tiny import MODEL_DIR
from tests.examples import examples
from tests.fuzz.mutations import JUNK, check_line, mutated, words

TOKENIZER = (MODEL_DIR / "tokenizer.json").read_text(encoding="utf-8")
PIECES = words(
    r"a b . \d \w \s [^a-z] [a\-z] ( (?: (?i) (?= (?<! ) * + ? {3} {1,50} {0,99999} ^ $ \b \1 \u0041 \x é 🐋 [ ] \\ |"
)
REGEXES = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=20)
KEYWORDS = st.sampled_from(
    words(
        "type properties required additionalProperties patternProperties items prefixItems minItems maxItems uniqueItems "
        "contains enum const anyOf oneOf allOf not if then else pattern format minLength maxLength minimum maximum multipleOf "
        "$ref $defs $dynamicRef $schema $id propertyNames minProperties dependentRequired unevaluatedProperties title default"
    )
)
LEAVES: st.SearchStrategy[Any] = JUNK | REGEXES | st.sampled_from(
    ["string", "object", "array", "integer", ["null", "number"], "#", "#/$defs/a", "#/properties/a", "date-time", "uuid", ["a"]]
)  # fmt: skip
SCHEMAS: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(KEYWORDS, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b", "^x", ""]), inner, max_size=3)
        | st.lists(inner, max_size=3)
    ),
    max_leaves=12,
)
LINES = [
    *('start: "a" b', "b: /x+/", "start: start start", "?x: start", 'T: "a".."z"', "b: a?", "a: b b b b | a a", "# c"),
    *("%ignore /\\s/", "%json {}", "%import common.INT", "start: <[99999]>", "root ::= a b", 'a ::= "x" a | ""'),
    *("root ::= root", "b ::= [a-z]{2,9} b?"),
]
WHOLE = [b'root ::= "a" b\nb ::= [0-9]+ | root', b'start: x\nx: "y" x | /z/']
GRAMMARS = st.lists(st.sampled_from(LINES), max_size=6).map("\n".join)
GRAMMARS |= mutated(WHOLE).map(lambda raw: raw.decode(errors="replace"))
CHOICES = st.lists(st.text(max_size=30), max_size=6).map(tuple)
FORMS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    *(
        st.fixed_dictionaries({kind: values})
        for kind, values in (("regex", REGEXES), ("grammar", GRAMMARS), ("choice", CHOICES))
    ),
    st.dictionaries(KEYWORDS, SCHEMAS, max_size=4).map(lambda schema: {"json": schema}),
)


@pytest.fixture(scope="module", autouse=True)
def _impatient() -> Iterator[None]:
    usual = grammar_trial._processes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammar_trial, "_processes", BoundedProcesses(usual.program, replace(usual.limits, seconds=1.0)))
        yield
        assert try_form(StructuredOutputs(regex="a+"), TOKENIZER, (2,))


@examples(150, suppress_health_check=[HealthCheck.too_slow])
@given(FORMS)
@example({"json": {"$ref": "#"}})
@example({"json": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}})
@example({"regex": "((((a{1,50}){1,50}){1,50}){1,50}){1,50}"})
@example({"grammar": "root ::= root root | root"})
def test_any_form_compiles_or_is_refused(form: dict[str, Any]) -> None:
    try:
        wanted = StructuredOutputs(**form)
        found = try_form(wanted, TOKENIZER, (2,))
    except RequestError as error:
        check_line(error)
    else:
        assert 0 < len(found) <= 8 * MOST_CHARACTERS
