"""Grammars of answers that call tools, in llguidance's form of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from orcinus.core.structured_outputs import JSON_SPACING
from orcinus.errors import RequestError, shown
from orcinus.text.json_schema.closed_schema import COMBINED
from orcinus.text.json_schema.enforceable_schema import enforceable_object
from orcinus.text.json_schema.schema_problem import schema_problem, with_place
from orcinus.text.tools.tool_call import TokenId, Tool, ToolChoice

MOST_RULES = 20_000
REMEMBERED_SIZE = 16_384  # characters of a schema
TEXT = r"/(.|\n)*/"
LINE = r"/((.|\n)*\n)?[ \t\r\n;]*/"  # to the beginning of a line, or to the next call
SPACE = r"/[ \t\r\n]*/"


@dataclass(frozen=True, slots=True)
class Opening:
    """A beginning of calls in free text, to the first call.

    `mark` begins calls anywhere, `line` (a terminal) at the beginning of a line. `first` is the rule of the first call.
    """

    mark: str = ""
    line: str = ""
    then: str = ""
    first: str = "call"
    end: str = ""


class CallGrammar:
    """Collects the rules of tools' calls and of their arguments.

    Raises `RequestError` if a call is forced and there is no such tool.
    """

    def __init__(self, tools: Sequence[Tool], choice: ToolChoice, parallel: bool, token_id: TokenId) -> None:
        self.forced = choice.forced
        self._tools = _callable(tools, choice)  # with their places in `tools`
        self._several = parallel and choice.name is None
        self._token_id = token_id
        self._rules: list[str] = []
        self._calls: list[str] = []

    def mark(self, mark: str) -> str:
        """A mark, as a special token or as text."""
        number = self._token_id(mark)
        return quoted(mark) if number is None else f"<[{number}]>"

    def rule(self, kind: str, body: str, options: str = "") -> str:
        """Add a rule or, with a capital, a terminal; returns its name."""
        if len(self._rules) == MOST_RULES:
            raise RequestError(f"the tools need more than {MOST_RULES:,} grammar rules: offer fewer, or simpler ones", "tools")
        name = f"{kind}_{len(self._rules)}"
        self._rules.append(f"{name}{options}: {body}")
        return name

    def add_calls(self, write: Callable[[Tool], Sequence[str]]) -> None:
        """Add a call of each tool, of the parts that `write` returns.

        It raises `RequestError` about "name" or "parameters"; here the error gets the place of the tool.
        """
        for index, tool in self._tools.items():
            try:
                parts = write(tool)
            except RequestError as error:
                if error.field not in ("name", "parameters"):
                    raise
                where = f"tools[{index}].function.{error.field}"
                raise RequestError(f"{where}: {error}", where) from None
            self._calls.append(self.rule("call", " ".join(parts)))

    def arguments(self, tool: Tool) -> str:
        """A tool's arguments as JSON; any object if not bound."""
        return self.json("arguments", arguments_schema(tool) if self.bound(tool) else {"type": "object"})

    def json(self, kind: str, schema: Mapping[str, Any]) -> str:
        """Add a JSON value; returns the name of its rule."""
        check_schema(schema)
        return self.rule(kind, f"%json {json.dumps({**schema, 'x-guidance': JSON_SPACING})}")

    def bound(self, tool: Tool) -> bool:
        """Whether the tool's arguments follow its schema."""
        return self.forced or tool.strict

    def answer(self, *openings: Opening, begin: str = "", separator: str, end: str = "") -> str | None:
        """The grammar, from what stands around calls; None if nothing is bound.

        Forced calls begin with `begin`; in free text each of the `openings` may begin calls.
        """
        if not self._tools:
            return None
        start = f"{begin} {self._series('call', separator, end)}" if self.forced else self._text(openings, separator)
        return "\n".join(["%llguidance {}", f"start: {start}", f"call: {' | '.join(self._calls)}", *self._rules, ""])

    def _series(self, first: str, separator: str, end: str) -> str:
        return f"{first} ({separator} call)* {end}" if self._several else f"{first} {end}"

    def _text(self, openings: Sequence[Opening], separator: str) -> str:
        segments = [self._segment(opening, separator) for opening in openings]
        rest = self.rule("rest", TEXT)
        return f"({' | '.join(segments)})* {rest}" if self._several else f"{' | '.join(segments)} | {rest}"

    def _segment(self, opening: Opening, separator: str) -> str:
        """Text, the beginning of calls, and calls."""
        number = self._token_id(opening.mark) if opening.mark else None
        if number is not None:
            head = f"{self.rule('TEXT', TEXT)} <[{number}]>"
        else:
            terminal = f"{LINE} {opening.line}" if opening.line else f"{TEXT} {quoted(opening.mark)}"
            head = self.rule("head", self.rule("HEAD", terminal), "[lazy]")
        return self.rule("segment", f"{head} {opening.then} {self._series(opening.first, separator, opening.end)}")


def _callable(tools: Sequence[Tool], choice: ToolChoice) -> dict[int, Tool]:
    """The tools that a grammar has to know, by their places."""
    if not choice.forced:
        return dict(enumerate(tools)) if choice.mode == "auto" and any(tool.strict for tool in tools) else {}
    found = {index: tool for index, tool in enumerate(tools) if choice.name in (None, tool.name)}
    if not found:
        raise RequestError("tool_choice wants a call, but there is no such tool: name one of `tools`", "tool_choice")
    return found


def quoted(text: str) -> str:
    """Text as a Lark string."""
    return json.dumps(text)


def json_call(grammar: CallGrammar, tool: Tool, key: str, begin: str = '{"name"') -> tuple[str, str, str]:
    """A call as a JSON object, from what follows `begin`."""
    opened = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "{key}": '
    return quoted(opened.removeprefix(begin)), grammar.arguments(tool), '"}"'


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """The schema of a tool's arguments, in keywords that can be enforced.

    A tool that declares none takes none. Raises `RequestError` about "parameters".
    """
    given = {**(tool.parameters or {}), "type": "object"}
    given.pop("nullable", None)  # arguments are an object
    if not any(name in given for name in (*COMBINED, "additionalProperties", "properties", "required")):
        return {**given, "additionalProperties": False}
    try:
        return enforceable_object(given, "arguments")
    except RequestError as error:
        raise RequestError(str(error), "parameters") from None
    except RecursionError:
        raise RequestError("it is nested too deeply", "parameters") from None


def check_schema(schema: Mapping[str, Any]) -> None:
    """Raise `RequestError` about "parameters" for a JSON Schema that llguidance cannot enforce, with the place."""
    text = json.dumps(schema)
    problem = _problem(text) if len(text) <= REMEMBERED_SIZE else _problem.__wrapped__(text)
    if problem:
        raise RequestError(problem, "parameters")


def check_expressible(schema: Mapping[str, Any], form: str) -> None:
    """Raise `RequestError` for more than a list of properties."""
    check_schema(schema)
    for keyword in (*COMBINED, "minProperties", "dependentRequired"):
        if keyword in schema:
            raise RequestError(f"the form {form!r} cannot enforce {keyword!r} here", "parameters")


@lru_cache(1024)  # agents send the same tools again and again, and a check takes about 0.5 ms
def _problem(schema: str) -> str:
    """Why llguidance cannot enforce a JSON Schema, and where; "" if it can."""
    problem = schema_problem(schema)
    return with_place(json.loads(schema), len(schema), problem) if problem else ""


def check_name(name: str, pattern: re.Pattern[str], field: str, form: str) -> str:
    """The name, if the form can write it.

    Raises `RequestError` about `field`: "name" or "parameters".
    """
    if not pattern.fullmatch(name):
        raise RequestError(f"the form {form!r} cannot write {shown(name)}: rename it", field)
    return name
