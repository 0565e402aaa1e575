"""Why llguidance cannot enforce a JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orcinus.text.grammar_errors import TOO_LARGE, told
from orcinus.text.json_schema.faults import innermost_fault
from orcinus.text.json_schema.pointers import refused


def schema_problem(schema: str | Mapping[str, Any]) -> str:
    """What llguidance says of a schema, or of its text; "" if it can enforce it, or is not installed."""
    try:
        from llguidance import LLMatcher
    except ImportError:  # compiling the grammar says so
        return ""
    try:
        problem = LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(schema))  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:  # nested too deeply, or a number that is too large
        problem = str(error)
    return told(problem) if problem else ""


def with_place(schema: Any, size: int, problem: str) -> str:
    """A problem of a schema of `size` characters, with the place of its cause."""
    if problem == TOO_LARGE or not isinstance(schema, Mapping):
        return problem
    place, said = innermost_fault(schema, size, problem, schema_problem)
    return str(refused(place, said))
