"""Forms of answers in llguidance's own notation, and the limits under which it works (ADR 36)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orcinus.core.structured_outputs import JSON_SPACING, StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text.grammar_errors import told
from orcinus.text.json_schema.enforceable_schema import enforceable_object, enforceable_schema
from orcinus.text.json_schema.schema_problem import with_place

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MOST_CHARACTERS = 512 * 1024  # of one form, and of its grammar
# llguidance's counters of work. With its defaults, a rule of 40 characters takes 3 s for one token.
EXPRESSIONS = 250_000  # of a lexer
LEXER_STATES = 30_000  # 1 to 2 kB each
ITEMS = 10_000  # of the parser, for one token
META = re.compile(r"[\\.+*?()|\[\]{}^$#&\-~]")


@dataclass(frozen=True, slots=True)
class GrammarVocabulary:
    """What a grammar needs of a tokenizer and its model."""

    tokenizer: str  # the text of a tokenizer.json
    eos_ids: tuple[int, ...]
    size: int  # of the model's logits


def ll_tokenizer(text: str, eos_ids: Iterable[int]) -> LLTokenizer:
    """llguidance's index of a tokenizer.json. Raises `RequestError`."""
    from llguidance import LLTokenizer

    try:
        return LLTokenizer(text, eos_token=[*eos_ids])
    except ValueError:
        message = "structured output is not available: llguidance cannot read this model's tokenizer"
        raise RequestError(message, "structured_outputs") from None


def compiled(tokenizer: LLTokenizer, grammar: str, field: str | None = None) -> LLMatcher:
    """A matcher at a grammar's beginning. Raises `RequestError` about `field`."""
    from llguidance import LLMatcher

    matcher = LLMatcher(tokenizer, grammar, log_level=0, limits=_limits())
    if matcher.is_error():
        raise RequestError(told(matcher.get_error()), field)
    return matcher


def _limits() -> LLParserLimits:
    """The bounds of work that every grammar is compiled and followed with."""
    from llguidance import LLParserLimits

    return LLParserLimits(
        initial_lexer_fuel=EXPRESSIONS, max_lexer_states=LEXER_STATES, step_max_items=ITEMS, verbose_errors=False
    )


def to_llguidance(wanted: StructuredOutputs) -> str:
    """A form in llguidance's own notation. Raises `RequestError`."""
    try:
        from llguidance import LLMatcher, grammar_from
    except ImportError:  # there is no wheel for every machine
        message = "structured output needs the package llguidance, which is not installed here"
        raise RequestError(message, "structured_outputs") from None
    match wanted.kind:
        case "json":
            return _of_schema(str(wanted.json))
        case "json_object":
            return _of_schema('{"type": "object"}')
        case "regex":
            return LLMatcher.grammar_from_regex(str(wanted.regex))
        case "choice":  # one expression: the parser has one item for all of them
            return LLMatcher.grammar_from_regex("|".join(META.sub(r"\\\g<0>", one) for one in wanted.choice or ()))
        case "grammar":
            try:
                return grammar_from("grammar", str(wanted.grammar))
            except (ValueError, RecursionError) as error:
                raise RequestError(told(str(error)), "grammar") from None
    return LLMatcher.grammar_from_lark(str(wanted.llguidance))


def _of_schema(schema: str) -> str:
    from llguidance import LLMatcher

    parsed = json.loads(schema)
    try:
        return LLMatcher.grammar_from_json_schema(enforceable_object(parsed), {**JSON_SPACING})  # type: ignore[arg-type]
    except RequestError:  # names a place
        raise
    except (ValueError, RecursionError) as error:  # nested too deeply, or a number that is too large
        raise RequestError(told(str(error)), "json") from None


def with_schema_place(error: RequestError, wanted: StructuredOutputs) -> RequestError:
    """What llguidance says of a form, with its place in the schema if the form is one."""
    if wanted.kind != "json":
        return error
    text = str(wanted.json)
    return RequestError(with_place(enforceable_schema(json.loads(text)), len(text), str(error)), error.field)
