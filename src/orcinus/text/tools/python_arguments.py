"""Grammars of arguments as Python's keyword arguments."""

from __future__ import annotations

import re

from orcinus.text.tools.call_grammar import CallGrammar, check_name, quoted
from orcinus.text.tools.parameter_schema import ParameterSchema
from orcinus.text.tools.tool_call import Tool
from orcinus.text.tools.xml_arguments import check_expressible

NAME = re.compile(r"[^\s,()\[\]{}:=\"']+")
KEY = r"/[A-Za-z_][A-Za-z_0-9]*/"


def arguments_rule(grammar: CallGrammar, tool: Tool, form: str) -> str:
    """The arguments of a tool, in the order of its schema; those of a tool that is not bound have any values.

    Values are JSON, except `True`, `False` and `None` alone. Raises `RequestError` for what this form cannot express.
    """
    if not grammar.bound(tool):
        one = grammar.rule("argument", f'{KEY} "=" {grammar.json("value", {})}')
        return grammar.rule("arguments", f'({one} (", " {one})*)?')
    schema = ParameterSchema(tool)
    check_expressible(schema, form)
    names = [*schema.properties, *sorted(schema.required - set(schema.properties))]
    first = more = grammar.rule("arguments", '""')
    for name in reversed(names):  # each rule: what may be written from this parameter on, alone or after another
        begin = quoted(f"{check_name(name, NAME, 'parameters', form)}=")
        one = grammar.rule("argument", f"{begin} {_value(grammar, schema, name)}")
        optional = name not in schema.required
        first = grammar.rule("arguments", f"{one} {more}" + (f" | {first}" if optional else ""))
        more = grammar.rule("more", f'", " {one} {more}' + (f" | {more}" if optional else ""))
    return first


def _value(grammar: CallGrammar, schema: ParameterSchema, name: str) -> str:
    inner, types = schema.inner(name), schema.types(name)
    if types == {"boolean"} and not {"enum", "const"} & set(inner):
        return '("True" | "False")'
    if types == {"null"}:
        return '"None"'
    return grammar.json("value", inner)
