"""Compiled grammars of structured output, by llguidance (ADR 36)."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING

from orcinus.core.request import Request
from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text.grammar_source import GrammarVocabulary, compiled, ll_tokenizer
from orcinus.text.grammar_trial import try_form
from orcinus.text.tokenizer import Tokenizer, file_text

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

KEPT_CHARACTERS = 8 * 1024 * 1024  # of cached grammars, as text; the same of forms and what was found of them
KEPT_COMPILED = 32  # grammars; the lexer of one grows to some ten MB as answers follow it
KEPT_CHECKED = 128  # forms
STACK_BYTES = 16 * 2**20  # of the thread that compiles


class Grammars:
    """Compiles grammars once, in the background, and hands out matchers.

    Threads may call it at the same time. `vocabulary` is called with the first grammar; it raises `RequestError` if the
    model's tokenizer is of no use here. Grammars `for_engine` are compiled as soon as they are checked. As a `Preparation` it
    prepares requests that have a grammar.
    """

    def __init__(self, vocabulary: Callable[[], GrammarVocabulary], *, for_engine: bool = False) -> None:
        self._for_engine = for_engine
        self._find_vocabulary = vocabulary
        self._vocabulary: GrammarVocabulary | None = None
        self._tokenizer: LLTokenizer | None = None
        self._lock = threading.Lock()
        self._tokenizer_lock = threading.Lock()
        self._compiled: OrderedDict[str, Future[LLMatcher]] = OrderedDict()  # the one used last at the end
        self._checked: OrderedDict[StructuredOutputs, str | RequestError] = OrderedDict()  # grammars, or why there are none
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
                threading.stack_size(STACK_BYTES)  # of the one thread that starts now
            found = self._compiled[grammar] = self._threads.submit(self._compile, grammar)
            threading.stack_size(0)
            self._drop_oldest()
            return found

    def _drop_oldest(self) -> None:
        """Keep the cache within its bounds. What is still being compiled stays: a request waits for it."""
        total, done = sum(map(len, self._compiled)), [text for text, one in self._compiled.items() if one.done()]
        for text in done:
            if len(self._compiled) <= KEPT_COMPILED and total <= KEPT_CHARACTERS:
                return
            total -= len(text)
            del self._compiled[text]

    def _compile(self, grammar: str) -> LLMatcher:
        return compiled(self._ll_tokenizer(), grammar, "structured_outputs")

    def _ll_tokenizer(self) -> LLTokenizer:
        with self._tokenizer_lock:
            if self._tokenizer is None:
                self._tokenizer = ll_tokenizer(self.vocabulary.tokenizer, self.vocabulary.eos_ids)
            return self._tokenizer

    def check(self, wanted: StructuredOutputs) -> str:
        """The grammar of a form, in llguidance's form, tried in another process. Raises `RequestError`."""
        with self._lock:
            found = self._checked.get(wanted)
        if found is None:
            known = self.vocabulary
            try:
                found = try_form(wanted, known.tokenizer, known.eos_ids)
            except RequestError as error:
                found = error
            with self._lock:
                self._checked[wanted] = found
                total = sum(_size(form, known) for form, known in self._checked.items())
                while len(self._checked) > KEPT_CHECKED or (total > KEPT_CHARACTERS and len(self._checked) > 1):
                    total -= _size(*self._checked.popitem(last=False))
        if isinstance(found, RequestError):
            raise RequestError(str(found), found.field)
        if self._for_engine:
            self.compile(found).result()  # its caller runs the engine, and has nothing else to do
        return found

    def knows(self, wanted: StructuredOutputs) -> bool:
        """Whether `check` answers at once."""
        return wanted in self._checked

    def forget(self, grammar: str) -> None:
        """Drop what was compiled: the next matcher begins with a fresh lexer.

        Matchers of a grammar share its lexer, and with it the bound on the lexer's states.
        """
        with self._lock:
            self._compiled.pop(grammar, None)

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


def _size(wanted: StructuredOutputs, found: str | RequestError) -> int:
    """Characters of a form and of what was found of it."""
    value = getattr(wanted, wanted.kind)
    return len(str(found)) + (sum(map(len, value)) if isinstance(value, tuple) else len(str(value)))
