"""Compiled grammars of structured output, by llguidance (ADR 36)."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orcinus.core.request import Request
from orcinus.core.structured_outputs import JSON_SPACING, StructuredOutputs
from orcinus.errors import RequestError, shortened
from orcinus.text.closed_schema import closed_schema
from orcinus.text.tokenizer import Tokenizer, file_text

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer

MOST_BYTES = 1024 * 1024  # of one grammar
KEPT_BYTES = 32 * 1024 * 1024  # of the texts of cached grammars; compiled, they take some times as much
LEXER_STATES = 30_000  # 1 to 2 kB each


@dataclass(frozen=True, slots=True)
class GrammarVocabulary:
    """What a grammar needs of a tokenizer and its model."""

    tokenizer: str  # the text of a tokenizer.json
    eos_ids: tuple[int, ...]
    size: int  # of the model's logits


class Grammars:
    """Compiles grammars once, in the background, and hands out matchers.

    Threads may call it at the same time. `vocabulary` is called with the first grammar; it raises `RequestError` if the
    model's tokenizer is of no use here. As a `Preparation` it prepares requests that have a grammar.
    """

    def __init__(self, vocabulary: Callable[[], GrammarVocabulary]) -> None:
        self._find_vocabulary = vocabulary
        self._vocabulary: GrammarVocabulary | None = None
        self._tokenizer: LLTokenizer | None = None
        self._lock = threading.Lock()
        self._tokenizer_lock = threading.Lock()
        self._compiled: OrderedDict[str, Future[LLMatcher]] = OrderedDict()  # the one used last at the end
        self._threads: ThreadPoolExecutor | None = None

    @property
    def vocabulary(self) -> GrammarVocabulary:
        """The vocabulary that grammars are compiled for. Raises `RequestError`."""
        if self._vocabulary is None:
            self._vocabulary = self._find_vocabulary()
        return self._vocabulary

    def compile(self, grammar: str) -> Future[LLMatcher]:
        """A matcher of a grammar in llguidance's form, being compiled.

        Its result is shared: take a copy of it. It raises `RequestError` for a grammar that cannot be used.
        """
        with self._lock:
            found = self._compiled.get(grammar)
            if found is not None:
                self._compiled.move_to_end(grammar)
                return found
            if self._threads is None:
                self._threads = ThreadPoolExecutor(1, "grammars")
            found = self._compiled[grammar] = self._threads.submit(self._compile, grammar)
            total = sum(map(len, self._compiled))
            while total > KEPT_BYTES:
                total -= len(self._compiled.popitem(last=False)[0])
            return found

    def _compile(self, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher

        matcher = LLMatcher(self._ll_tokenizer(), grammar, log_level=0, limits=_limits())
        if matcher.is_error():
            raise RequestError(_told(matcher.get_error()), "structured_outputs")
        return matcher

    def _ll_tokenizer(self) -> LLTokenizer:
        with self._tokenizer_lock:
            if self._tokenizer is None:
                from llguidance import LLTokenizer

                known = self.vocabulary
                try:
                    self._tokenizer = LLTokenizer(known.tokenizer, eos_token=list(known.eos_ids))
                except ValueError:
                    message = "structured output is not available: llguidance cannot read this model's tokenizer"
                    raise RequestError(message, "structured_outputs") from None
            return self._tokenizer

    def check(self, wanted: StructuredOutputs) -> str:
        """The grammar of a form, in llguidance's form, checked by compiling it. Raises `RequestError`."""
        grammar = to_llguidance(wanted)
        if len(grammar) > MOST_BYTES:
            raise RequestError(f"{wanted.kind}: {len(grammar)} characters are more than {MOST_BYTES}", wanted.kind)
        try:
            self.compile(grammar).result()
        except RequestError as error:
            raise RequestError(f"{wanted.kind}: {error}", wanted.kind) from None
        return grammar

    def matcher(self, grammar: str) -> LLMatcher:
        """A new matcher at the grammar's beginning; waits while it compiles. Raises `RequestError`."""
        return self.compile(grammar).result().deep_copy()

    # As a `Preparation`

    def begin(self, request: Request) -> None:
        """Start to compile the request's grammar, if it has one."""
        if request.params.grammar is not None:
            self.compile(request.params.grammar)

    def ready(self, request: Request) -> bool:
        """Whether the request has no grammar, or a compiled one."""
        return request.params.grammar is None or self.compile(request.params.grammar).done()

    def wait(self, requests: Sequence[Request], seconds: float) -> None:
        """Wait until one of the requests is ready, at most so long."""
        grammars = [request.params.grammar for request in requests]
        wait([self.compile(one) for one in grammars if one is not None], seconds, "FIRST_COMPLETED")


def vocabulary_of(tokenizer: Tokenizer | None, eos_ids: Iterable[int], vocab_size: int) -> GrammarVocabulary:
    """The vocabulary of a model's tokenizer. Raises `RequestError` if llguidance has no use for it."""
    text = None if tokenizer is None else file_text(tokenizer)
    if text is None:
        message = "structured output is not available: this model has no tokenizer in the form of a tokenizer.json"
        raise RequestError(message, "structured_outputs")
    return GrammarVocabulary(text, tuple(sorted(eos_ids)), vocab_size)


def _limits() -> LLParserLimits:
    from llguidance import LLParserLimits

    return LLParserLimits(max_lexer_states=LEXER_STATES, verbose_errors=False)


def to_llguidance(wanted: StructuredOutputs) -> str:
    """A form in llguidance's own notation. Raises `RequestError`."""
    try:
        from llguidance import LLMatcher, grammar_from
    except ImportError:  # there is no wheel for every machine
        message = "structured output needs the package llguidance, which is not installed here"
        raise RequestError(message, "structured_outputs") from None
    match wanted.kind:
        case "json":
            assert isinstance(wanted.json, str)
            return _of_schema(wanted.json)
        case "json_object":
            return _of_schema('{"type": "object"}')
        case "regex":
            return LLMatcher.grammar_from_regex(str(wanted.regex))
        case "choice":
            return LLMatcher.grammar_from_lark("start: " + " | ".join(map(json.dumps, wanted.choice or ())))
        case "grammar":
            try:
                return grammar_from("grammar", str(wanted.grammar))
            except ValueError as error:
                raise RequestError(f"grammar: {_told(str(error))}", "grammar") from None
    return LLMatcher.grammar_from_lark(str(wanted.llguidance))


def _of_schema(schema: str) -> str:
    from llguidance import LLMatcher

    parsed = json.loads(schema)
    if parsed is False:
        raise RequestError("json: the schema `false` allows no answer", "json")
    try:
        return LLMatcher.grammar_from_json_schema(closed_schema({} if parsed is True else parsed), {**JSON_SPACING})  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:  # nested too deeply
        raise RequestError(f"json: {_told(str(error))}", "json") from None


def _told(message: str) -> str:
    """The first line of one of llguidance's messages."""
    return shortened(message.strip().partition("\n")[0] or "it cannot be compiled")
