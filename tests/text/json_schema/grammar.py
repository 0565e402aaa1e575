"""Answers under the grammar of a schema, with the bundled tokenizer."""

from __future__ import annotations

import json
from typing import Any

from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.text.grammar_source import to_llguidance
from tests.text.tools.constrained import accepts


def grammar_of(schema: Any) -> str:
    return to_llguidance(StructuredOutputs(json=schema))


def writable(grammar: str, value: Any) -> bool:
    return accepts(grammar, json.dumps(value, ensure_ascii=False))
