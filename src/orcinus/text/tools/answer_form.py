"""The form of an answer that may call tools."""

from __future__ import annotations

import json
import re

from orcinus.core.structured_outputs import JSON_SPACING, StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text.json_schema.enforceable_schema import enforceable_object
from orcinus.text.tools.call_grammar import check_schema
from orcinus.text.tools.tool_call import TokenId, ToolChoice
from orcinus.text.tools.tool_use import ToolUse


def answer_form(
    use: ToolUse, choice: ToolChoice, wanted: StructuredOutputs | None, token_id: TokenId
) -> StructuredOutputs | None:
    """The form of an answer that may call tools and is wanted in a form; None for any text.

    A call that must come wins over the wanted form. If calls may come, the answer is calls or has that form; if none is
    wanted, the arguments of `strict` tools follow their schemas. Raises `RequestError` about a tool, or about the wanted
    form by the name of its kind.
    """
    if wanted is None or choice.forced:
        grammar = use.form.grammar(use.tools, choice, parallel=use.parallel, token_id=token_id)
        return None if grammar is None else StructuredOutputs(llguidance=grammar)
    rule = _rule(wanted)
    calls = use.form.grammar(use.tools, ToolChoice("required"), parallel=use.parallel, token_id=token_id)
    assert calls is not None
    renamed = re.sub(r"^start\b", "answer_of_calls", calls, count=1, flags=re.MULTILINE)
    header, body = renamed.split("\n", 1) if renamed.startswith("%llguidance") else ("", renamed)
    return StructuredOutputs(llguidance=f"{header}\nstart: answer_of_calls | answer_in_form\nanswer_in_form: {rule}\n{body}")


def _rule(wanted: StructuredOutputs) -> str:
    """The right side of a rule for a wanted form."""
    if wanted.json_object:
        return f"%json {json.dumps({'type': 'object', 'x-guidance': JSON_SPACING})}"
    if wanted.json is not None:
        return _json_rule(str(wanted.json))
    if wanted.choice is not None:
        return " | ".join(json.dumps(one, ensure_ascii=False) for one in wanted.choice)
    if wanted.regex is not None:
        return "/" + re.sub(r"(?<!\\)((?:\\\\)*)/", r"\1\/", wanted.regex).replace("\n", r"\n") + "/"
    reason = "cannot be combined with tools that may be called: set tool_choice to 'none' or 'required'"
    raise RequestError(f"{wanted.kind}: a grammar {reason}", wanted.kind)


def _json_rule(schema: str) -> str:
    try:
        spaced = {"x-guidance": JSON_SPACING, **enforceable_object(json.loads(schema))}
        check_schema(spaced)
    except RequestError as error:
        raise RequestError(f"json: {error}", "json") from None
    except RecursionError:
        raise RequestError("json: it is nested too deeply", "json") from None
    return f"%json {json.dumps(spaced)}"
