"""Which tokens a grammar and a thinking budget allow, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from orcinus.core.request import FinishCode
from orcinus.core.sampling_params import SamplingParams
from orcinus.core.structured_outputs import StructuredOutputs, ThinkingMarks
from orcinus.runtime import row_matcher
from orcinus.runtime.row_matcher import RowMatcher
from orcinus.runtime.token_bitmask import token_bitmask
from orcinus.text.grammars import Grammars, vocabulary_of
from orcinus.text.tokenizer import Tokenizer, load_tokenizer
from orcinus.tiny import MODEL_DIR
from tests.seam import row

BEGIN, END, EOS, OTHER = 40, 41, 2, 0  # the bundled tokenizer has no marks of reasoning: two tokens play them
SIZE = 2048


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    found = load_tokenizer(MODEL_DIR)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def grammars(tokenizer: Tokenizer) -> Iterator[Grammars]:
    return Grammars(lambda: vocabulary_of(tokenizer, (EOS, OTHER), SIZE))


def allowed(matcher: RowMatcher, output: Sequence[int]) -> set[int] | None:
    mask = matcher.bitmask(output, 0)
    return None if mask is None else {token for token in range(8 * len(mask)) if mask[token // 8] >> token % 8 & 1}


def matcher_of(grammars: Grammars, size: int = SIZE, regex: str | None = None, **params: Any) -> RowMatcher:
    grammar = None if regex is None else grammars.check(StructuredOutputs(regex=regex))
    return RowMatcher(SamplingParams(grammar=grammar, **params), grammars, size)


def test_a_grammar_allows_what_it_may_go_on_with_and_then_only_the_end(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = matcher_of(grammars, regex="ab?")
    a, b = (tokenizer.encode(letter, special=False)[0] for letter in "ab")
    first = allowed(matcher, [])
    assert first is not None
    assert {tokenizer.token_bytes(token) for token in first} == {b"a", b"ab"}
    assert allowed(matcher, [a]) == {b, EOS, OTHER}
    assert allowed(matcher, [a, b]) == {EOS, OTHER}


def test_tokens_beyond_the_tokenizer_are_never_allowed(grammars: Grammars) -> None:
    mask = matcher_of(grammars, size=SIZE + 100, regex=".*").bitmask([], 0)
    assert mask is not None
    assert len(mask) == 4 * ((SIZE + 100 + 31) // 32)
    assert mask[SIZE // 8 :] == bytes(len(mask) - SIZE // 8)


def test_reasoning_that_the_prompt_opened_is_free_but_cannot_end_the_request(grammars: Grammars) -> None:
    matcher = matcher_of(grammars, regex="a", thinking=ThinkingMarks(BEGIN, END, True), stop_token_ids=(EOS,))
    assert allowed(matcher, []) == set(range(SIZE)) - {EOS}
    assert allowed(matcher, [7, 8]) == set(range(SIZE)) - {EOS}
    answer = allowed(matcher, [7, 8, END])
    assert answer == allowed(matcher_of(grammars, regex="a"), [])


def test_an_answer_may_begin_with_reasoning_or_without(grammars: Grammars) -> None:
    plain = allowed(matcher_of(grammars, regex="a"), [])
    assert plain is not None
    matcher = matcher_of(grammars, regex="a", thinking=ThinkingMarks(BEGIN, END, False), stop_token_ids=(EOS,))
    assert allowed(matcher, []) == plain | {BEGIN}
    assert allowed(matcher, [BEGIN]) == set(range(SIZE)) - {EOS}
    assert allowed(matcher, [BEGIN, 5, END]) == plain


@pytest.mark.parametrize(("budget", "opened"), [(0, True), (3, True), (0, False), (3, False)])
def test_a_budget_forces_the_end_of_reasoning_and_nothing_after_it(grammars: Grammars, budget: int, opened: bool) -> None:
    matcher = matcher_of(grammars, thinking_token_budget=budget, thinking=ThinkingMarks(BEGIN, END, opened))
    begun = [] if opened else [BEGIN]
    if not opened:
        assert allowed(matcher, []) is None
    for thought in range(budget):
        assert allowed(matcher, [*begun, *[7] * thought]) is None
    assert allowed(matcher, [*begun, *[7] * budget]) == {END}
    assert allowed(matcher, [*begun, *[7] * budget, END, 7]) is None


def test_a_matcher_that_joins_later_reads_the_whole_output(grammars: Grammars, tokenizer: Tokenizer) -> None:
    """As after a preemption, or on another engine."""
    output = list(tokenizer.encode("abab", special=False))
    early, late = matcher_of(grammars, regex="(ab){4}"), matcher_of(grammars, regex="(ab){4}")
    for end in range(len(output) + 1):
        found = early.bitmask(output[:end], 0)
    assert late.bitmask(output, 0) == found


def test_a_grammar_that_becomes_too_complex_fails_its_row_alone(grammars: Grammars, tokenizer: Tokenizer) -> None:
    matcher = matcher_of(grammars, regex="(.*a.{10,200}){5,50}b")
    output: list[int] = []
    while matcher.failure is None and len(output) < 400:
        output.append(tokenizer.encode(" are", special=False)[0])
        last = matcher.bitmask(output, 0)
    assert matcher.failure is not None
    assert matcher.failure.code is FinishCode.BAD_GRAMMAR
    assert last == bytes(SIZE // 8)
    assert matcher_of(grammars, regex="a").failure is None
    again = matcher_of(grammars, regex="(.*a.{10,200}){5,50}b")  # its lexer is a new one, with room for states of its own
    assert again.bitmask(output[:5], 0) != bytes(SIZE // 8)
    assert again.failure is None


def test_a_token_that_takes_too_long_fails_its_row(
    grammars: Grammars, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a,) = tokenizer.encode("a", special=False)
    matcher = matcher_of(grammars, regex="a*")
    assert matcher.bitmask([], 0) is not None
    assert matcher.failure is None
    monkeypatch.setattr(row_matcher, "STEP_S", -1.0)
    matcher.bitmask([a], 0)
    assert matcher.failure is not None
    assert matcher.failure.code is FinishCode.BAD_GRAMMAR
    late = matcher_of(grammars, regex="a*")
    late.bitmask([a, a, a], 0)  # all that a preempted request has written, at once
    assert late.failure is None


def test_min_tokens_yield_to_a_finished_grammar(grammars: Grammars, tokenizer: Tokenizer) -> None:
    (a,) = tokenizer.encode("a", special=False)
    grammar = grammars.check(StructuredOutputs(regex="aa?"))
    params = SamplingParams(grammar=grammar, min_tokens=9, max_tokens=20, stop_token_ids=(EOS, OTHER))

    def left(*output: int) -> set[int]:
        drawn = row((5, *output), 1, params)
        drawn.request.matcher = RowMatcher(params, grammars, SIZE)
        words = token_bitmask(drawn, SIZE)
        assert words is not None
        return {token for token in range(SIZE) if int(words[token // 32]) >> token % 32 & 1}

    assert left(a) == {a}  # the grammar could end here, min_tokens say no
    assert left(a, a) == {EOS, OTHER}
