"""The tokens that a request's grammar and thinking budget allow next."""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from orcinus.core.request import Failure, FinishCode
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.structured_outputs import ThinkingMarks
from orcinus.errors import RequestError
from orcinus.text.grammars import Grammars

if TYPE_CHECKING:
    from llguidance import LLMatcher

STEP_S = 0.25  # most CPU seconds that one token may take: all requests of a batch wait for it
TOO_COMPLEX = "its grammar became too complex to follow: simplify the schema, or bound its lengths"


class _Stage(Enum):
    """Where the output stands."""

    BEFORE = auto()  # nothing generated: reasoning may begin
    REASONING = auto()
    ANSWER = auto()


class RowMatcher:
    """A `TokenMatcher`: reasoning within its budget, then an answer of the grammar.

    Reasoning is free text. It ends with the mark that the budget forces, or that the model writes; with a grammar it cannot
    end the request, because the answer is still to come. A request without marks answers at once.
    """

    def __init__(self, params: SamplingParams, grammars: Grammars | None, vocab_size: int) -> None:
        self.failure: Failure | None = None
        self._matcher: LLMatcher | None = None
        self._grammars, self._grammar = grammars, params.grammar
        self._words = -(-vocab_size // 32)
        self._marks = params.thinking
        self._budget, self._stops = params.thinking_token_budget, params.stop_token_ids
        self._stage = _first_stage(params.thinking)
        self._read = self._thought = 0  # tokens of the output; of the reasoning
        if params.grammar is not None:
            try:
                self._matcher = _matcher_of(grammars, params.grammar)
            except RequestError as error:
                self._fail(str(error))

    def bitmask(self, tokens: Sequence[int], prompt_length: int) -> bytes | None:
        fresh, began = tokens[prompt_length + self._read :], time.thread_time()
        mask = self._next(fresh)
        if len(fresh) <= 1 and time.thread_time() - began > STEP_S and self.failure is None:
            self._fail(TOO_COMPLEX)
        return mask

    def _next(self, fresh: Sequence[int]) -> bytes | None:
        """The bitmask after the tokens that are new in the output."""
        for token in fresh:
            self._follow(token)
        self._read += len(fresh)
        if self._stage is _Stage.REASONING:
            return self._of_reasoning()
        mask = self._of_answer()
        if mask is None or self._stage is _Stage.ANSWER or self._marks is None:
            return mask
        return self._with(mask, self._marks.begin)

    def _follow(self, token: int) -> None:
        """Take the next token of the output."""
        marks = self._marks
        if self._stage is _Stage.BEFORE:
            assert marks is not None
            self._stage = _Stage.REASONING if token == marks.begin else _Stage.ANSWER
            if self._stage is _Stage.REASONING:
                return
        if self._stage is _Stage.REASONING:
            assert marks is not None
            if token == marks.end:
                self._stage = _Stage.ANSWER
            self._thought += 1
        elif self._matcher is not None and not self._matcher.is_stopped():
            self._matcher.consume_token(token)

    def _of_reasoning(self) -> bytes | None:
        assert self._marks is not None
        if self._budget is not None and self._thought >= self._budget:
            return _set_bits(np.zeros(self._words, np.uint32), [self._marks.end])
        if self._matcher is None:
            return None
        mask = np.full(self._words, 2**32 - 1, np.uint32)
        bits = mask.view(np.uint8)
        for token in self._stops:
            bits[token // 8] &= ~np.uint8(1 << token % 8)
        return mask.tobytes()

    def _of_answer(self) -> bytes | None:
        if self.failure is not None:
            return bytes(4 * self._words)
        if self._matcher is None:
            return None
        found = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            self._fail(TOO_COMPLEX)
            return bytes(4 * self._words)
        size = 4 * self._words
        return found[:size].ljust(size, b"\0")  # models may have more logits than their tokenizer has tokens

    def _with(self, mask: bytes, token: int) -> bytes:
        return _set_bits(np.frombuffer(mask, np.uint32).copy(), [token])

    def _fail(self, text: str) -> None:
        if self._grammars is not None and self._grammar is not None:
            self._grammars.forget(self._grammar)
        self.failure = Failure(FinishCode.BAD_GRAMMAR, text)


def _first_stage(marks: ThinkingMarks | None) -> _Stage:
    if marks is None:
        return _Stage.ANSWER
    return _Stage.REASONING if marks.open else _Stage.BEFORE


def _matcher_of(grammars: Grammars | None, grammar: str) -> LLMatcher:
    if grammars is None:
        raise RequestError("this engine has no tokenizer, so it cannot follow a grammar")
    return grammars.matcher(grammar)


def _set_bits(mask: NDArray[np.uint32], tokens: Sequence[int]) -> bytes:
    bits = mask.view(np.uint8)
    for token in tokens:
        bits[token // 8] |= np.uint8(1 << token % 8)
    return mask.tobytes()
