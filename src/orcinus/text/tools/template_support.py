"""What chat templates do with tools and calls."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jinja2

from orcinus.errors import ConfigError, shown
from orcinus.text.template_process import environment
from orcinus.text.tools import FORMS
from orcinus.text.tools.mistral import ARGS, Mistral, template_id
from orcinus.text.tools.pythonic import MARKS, Pythonic
from orcinus.text.tools.tool_call import ToolForm

# What the templates of each form contain, in the order in which to look: the first whose words are all there.
SIGNS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("mistral", ("[TOOL_CALLS]",)),
    ("qwen3_coder", ("<function=", "<parameter=")),
    ("hermes", ("<tool_call>",)),
    *(("pythonic", (sign,)) for sign in ("<|tool_call_start|>", "func_name1(", "params_name1=")),
    ("llama3_json", ("<|python_tag|>",)),
    ("llama3_json", ("<|start_header_id|>", '"parameters"')),
)


def find_form(template: str | None, name: str | None = None) -> ToolForm:
    """The form in which a template writes calls; `hermes` without one.

    `name` is a form's name in `FORMS`, chosen by the user; the template then only tells variants of it apart. Raises
    `ConfigError` for an unknown name.
    """
    text = template or ""
    if name is not None and name not in FORMS:
        raise ConfigError(f"no tool-call form {shown(name)}: choose one of {', '.join(FORMS)}")
    found = name or next((form for form, signs in SIGNS if all(sign in text for sign in signs)), "hermes")
    if found == "mistral":
        return Mistral(named=ARGS in text)
    if found == "pythonic":
        return Pythonic(mark=next((mark for mark in MARKS if mark in text), ""))
    return FORMS[found]


@lru_cache(8)  # one model, one template
def knows_tools(template: str | None) -> bool:
    """Whether a template reads the variable `tools`.

    The template is parsed and nothing in it is evaluated, not even constants (`jinja2.meta` would): it is not trusted.
    """
    try:
        names = environment().parse(template or "").find_all(jinja2.nodes.Name)
        return any(name.name == "tools" and name.ctx == "load" for name in names)
    except (jinja2.TemplateError, RecursionError):  # rendering it will tell
        return False


def with_template_ids(template: str | None, messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The messages with ids of calls that the template accepts: Mistral's have nine characters."""
    if not isinstance(find_form(template), Mistral):
        return messages
    return [_with_template_ids(message) for message in messages]


def _with_template_ids(message: Mapping[str, Any]) -> Mapping[str, Any]:
    found = dict(message)
    if isinstance(result := found.get("tool_call_id"), str):
        found["tool_call_id"] = template_id(result)
    if calls := found.get("tool_calls"):
        found["tool_calls"] = [call | {"id": template_id(call["id"])} if call.get("id") else call for call in calls]
    return found


def template_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call of the history as templates expect it.

    Arguments that are JSON text become an object.
    """
    function = call.get("function")
    if not isinstance(function, Mapping):
        return dict(call)
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except (TypeError, ValueError, RecursionError):  # an object already, or no JSON
        return dict(call)
    return {**call, "function": {**function, "arguments": arguments}}
