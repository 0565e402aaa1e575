"""Grammars of arguments as plain text between marks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orcinus.errors import RequestError
from orcinus.text.json_schema.string_patterns import patterns_of
from orcinus.text.tools.call_grammar import TEXT, CallGrammar, arguments_schema, check_expressible, check_name, quoted
from orcinus.text.tools.parameter_schema import ALL, DEEPEST, ParameterSchema
from orcinus.text.tools.tool_call import Tool

PARAMETER, END_OF_VALUE = "<parameter=", "</parameter>"
NAME = re.compile(r"[^<>\n]+")
END = f"\n{END_OF_VALUE}\n"
WITHOUT_END = r"~/(.|\n)*<\/parameter>(.|\n)*/"
WORDS = r"/[^-0-9\[{\"\s](.|\n)*/"  # text that does not begin as other JSON values do


def arguments_rule(grammar: CallGrammar, tool: Tool, form: str) -> str:
    """The arguments of a tool, in the order of its schema.

    Those of a tool that is not bound are any text. Raises `RequestError` for what this form cannot express.
    """
    if not grammar.bound(tool):
        return grammar.rule("arguments", f'("{PARAMETER}" /[^<>\\n]+/ ">\\n" {_text(grammar)})*')
    schema = ParameterSchema(replace(tool, parameters=arguments_schema(tool)))
    check_expressible(schema.root, form)
    parts = []
    for name in (*schema.properties, *sorted(schema.required - set(schema.properties))):
        begin = quoted(f"{PARAMETER}{check_name(name, NAME, 'parameters', form)}>\n")
        one = grammar.rule("parameter", f"{begin} {_value(grammar, schema, schema.properties.get(name, True))}")
        parts.append(one if name in schema.required else f"{one}?")
    return grammar.rule("arguments", " ".join(parts) or '""')


def _value(grammar: CallGrammar, schema: ParameterSchema, value: Any, *, mixed: bool = False, depth: int = 0) -> str:
    """A value and its closing mark.

    `mixed`: it may be other than a string, so text must not look like JSON.
    """
    if depth > DEEPEST:
        raise RequestError(
            f"a parameter has more than {DEEPEST} alternatives inside each other: simplify its schema", "parameters"
        )
    value = schema.resolved(value)
    for keyword in ("anyOf", "oneOf"):
        if isinstance(inner := value.get(keyword), list):
            several = schema.types_of(value) != {"string"}
            each = (_value(grammar, schema, one, mixed=mixed or several, depth=depth + 1) for one in inner)
            return f"({' | '.join(each)})"
    values = [value["const"]] if "const" in value else value.get("enum")
    if isinstance(values, list):
        texts = (one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in values)
        return f"({' | '.join(map(quoted, texts))}) {quoted(END)}"
    types = schema.types_of(value)
    if types == ALL:
        return _text(grammar)
    if types == {"boolean"}:
        return f'("true" | "false" | "True" | "False") {quoted(END)}'  # templates write Python's words
    if "string" not in types:
        return _json(grammar, schema, value)
    text = _text(grammar, *_limits(value), *([WORDS] if mixed or len(types) > 1 else []))
    if types == {"string"}:
        return text
    return f"({text} | {_json(grammar, schema, {**value, 'type': sorted(types - {'string'})})})"


def _json(grammar: CallGrammar, schema: ParameterSchema, value: Mapping[str, Any]) -> str:
    return f"{grammar.json('value', {**value, **schema.definitions})} {quoted(END)}"


def _text(grammar: CallGrammar, *limits: str) -> str:
    """Text to its closing mark.

    Text with limits is one lexeme with the mark: lexemes are as long as they can be.
    """
    if not limits:
        terminal = grammar.rule("VALUE", f'{TEXT} "{END_OF_VALUE}"')
        return f'{grammar.rule("value", terminal, "[lazy]")} "\\n"'
    limited = grammar.rule("TEXT", " & ".join((*limits, WITHOUT_END)))
    return grammar.rule("value", grammar.rule("VALUE", f"{limited} {quoted(END)}"), "[lazy]")


def _limits(schema: Mapping[str, Any]) -> list[str]:
    """A schema's limits of a string, as terminals; `format` is ignored."""
    limits = []
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least or most is not None:
        if not isinstance(least, int) or not isinstance(most, int | None):
            raise RequestError("minLength and maxLength of a parameter must be integers", "parameters")
        limits.append(f"/(.|\\n){{{least},{'' if most is None else most}}}/")
    return [*limits, *map(_search, patterns_of(schema))]


def _search(pattern: str) -> str:
    """A text that a pattern of JSON Schema is found in."""
    begins, ends = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    body = pattern[begins : len(pattern) - ends]
    body = re.sub(
        r"\\.|/|\n",
        lambda found: {"/": r"\/", "\n": r"\n", r"\d": "[0-9]", r"\w": "[a-zA-Z0-9_]"}.get(found[0], found[0]),
        body,
    )
    anything = r"(.|\n)*"
    return f"/{'' if begins else anything}({body}){'' if ends else anything}/"
