"""Grammars of arguments as plain text between marks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orcinus.errors import RequestError, shown
from orcinus.text.tools.call_grammar import COMBINED, CallGrammar, check_name, json_rule, quoted
from orcinus.text.tools.parameter_schema import ALL, ParameterSchema
from orcinus.text.tools.tool_call import Tool

PARAMETER, END_OF_VALUE = "<parameter=", "</parameter>"
NAME = re.compile(r"[^<>\n]+")
LENGTHS = ("minLength", "maxLength")
WORDS = r"/[^-0-9\[{\"\s](.|\n)*/"  # text that does not begin as other JSON values do


def arguments_rule(grammar: CallGrammar, tool: Tool, form: str) -> str:
    """The arguments of a tool, in the order of its schema; those of a tool that is not bound are any text.

    Raises `RequestError` for what this form cannot express.
    """
    if not grammar.bound(tool):
        value = grammar.rule("value", grammar.rule("VALUE", rf'/(.|\n)*/ "{END_OF_VALUE}"'), "[lazy]")
        return grammar.rule("arguments", f'("{PARAMETER}" /[^<>\\n]+/ ">\\n" {value} "\\n")*')
    schema = ParameterSchema(tool)
    check_expressible(schema, tool.name, form)
    parts = []
    for name in (*schema.properties, *sorted(schema.required - set(schema.properties))):
        begin = quoted(f"{PARAMETER}{check_name(name, NAME, 'the parameter', form)}>\n")
        one = grammar.rule("parameter", f"{begin} {_value(grammar, schema, name)}")
        parts.append(one if name in schema.required else f"{one}?")
    return grammar.rule("arguments", " ".join(parts) or '""')


def check_expressible(schema: ParameterSchema, tool: str, form: str) -> None:
    """Raise `RequestError` for a schema of arguments that is more than a list of properties."""
    for keyword in (*COMBINED, "minProperties", "dependentRequired"):
        if keyword in schema.root:
            raise RequestError(f"the form {form!r} cannot enforce {keyword!r} in the parameters of {shown(tool)}", "tools")


def _value(grammar: CallGrammar, schema: ParameterSchema, name: str) -> str:
    """A value and its closing mark."""
    inner, types = schema.inner(name), schema.types(name)
    if types == {"string"}:
        return _string(grammar, inner)
    end = quoted(f"\n{END_OF_VALUE}\n")
    if types == ALL:
        return _any_text(grammar)
    if "string" not in types:
        return f"{grammar.rule('value', json_rule(inner))} {end}"
    others = grammar.rule("value", json_rule({"allOf": [inner, {"type": sorted(types - {"string"})}], **schema.definitions}))
    text = grammar.rule("value", grammar.rule("VALUE", f"{WORDS} & {_without_end()}"))
    return f"({others} | {text}) {end}"


def _any_text(grammar: CallGrammar) -> str:
    value = grammar.rule("value", grammar.rule("VALUE", rf'/(.|\n)*/ "{END_OF_VALUE}"'), "[lazy]")
    return f'{value} "\\n"'


def _without_end() -> str:
    return r"~/(.|\n)*<\/parameter>(.|\n)*/"


def _string(grammar: CallGrammar, schema: Mapping[str, Any]) -> str:
    """A string, with what JSON Schema says of its text; `format` is a comment."""
    end = quoted(f"\n{END_OF_VALUE}\n")
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list):
        return f"({' | '.join(quoted(one) for one in values if isinstance(one, str))}) {end}"
    limits = []
    if any(name in schema for name in LENGTHS):
        least, most = schema.get("minLength", 0), schema.get("maxLength", "")
        limits.append(f"/(.|\\n){{{least},{most}}}/")
    if isinstance(pattern := schema.get("pattern"), str):
        limits.append(_search(pattern))
    if not limits:
        return _any_text(grammar)
    return f"{grammar.rule('value', grammar.rule('VALUE', ' & '.join([*limits, _without_end()])))} {end}"


def _search(pattern: str) -> str:
    """A text that a pattern of JSON Schema is found in."""
    begins, ends = pattern.startswith("^"), pattern.endswith("$") and not pattern.endswith("\\$")
    body = pattern[begins : len(pattern) - ends]
    body = re.sub(r"\\.|/", lambda found: {"/": r"\/", r"\d": "[0-9]", r"\w": "[a-zA-Z0-9_]"}.get(found[0], found[0]), body)
    anything = r"(.|\n)*"
    return f"/{'' if begins else anything}({body}){'' if ends else anything}/"
