"""Answers that may call tools: marks stay visible, calls are no text, endings say why."""

from __future__ import annotations

import json

from orcinus.core.batch import Finished, Token
from orcinus.core.request import Finish, RequestContext
from orcinus.core.sampling_params import SamplingParams
from orcinus.text.answer import Answer, TextDelta
from orcinus.text.input_processor import TokenizedRequest
from orcinus.text.tokenizer import Tokenizer, load_tokenizer
from orcinus.text.tools import FORMS
from orcinus.text.tools.tool_call import Tool
from orcinus.text.tools.tool_use import ToolUse
from orcinus.tiny import MODEL_DIR

TURN = Tool("turn")
CALL = '<tool_call>\n{"name": "turn", "arguments": {"side": "left"}}\n</tool_call>'


def tokenizer() -> Tokenizer:
    found = load_tokenizer(MODEL_DIR)
    assert found is not None
    return found


def ended(
    text: str, *, finish: Finish = Finish.STOP, parallel: bool = True, forced: bool = False, **params: object
) -> tuple[Answer, TextDelta]:
    """An answer of the tokens of a text, and its last delta."""
    use = ToolUse(FORMS["hermes"], (TURN,), parallel, forced)
    known = tokenizer()
    one = TokenizedRequest(0, 0, None, (5,), SamplingParams(**params), RequestContext(), tool_use=use)  # type: ignore[arg-type]
    answer = Answer.begin("r", one, known, 0.0)
    for token in known.encode(text, special=False):
        answer.add(Token("r", token, 0.0))
    return answer, answer.end(Finished("r", finish, 0.0))


def arguments(answer: Answer) -> list[str]:
    """The arguments of each call."""
    count = 1 + max((call.index for call in answer.tool_calls), default=-1)
    return ["".join(call.arguments for call in answer.tool_calls if call.index == index) for index in range(count)]


def test_a_call_is_no_text_and_ends_the_answer_as_one() -> None:
    answer, last = ended("Left it is. " + CALL)
    assert answer.text.strip() == "Left it is."
    assert [json.loads(one) for one in arguments(answer)] == [{"side": "left"}]
    assert last.finish_reason == answer.finish_reason == "tool_calls"


def test_an_answer_that_is_cut_is_cut_whatever_it_calls() -> None:
    answer, last = ended(CALL, finish=Finish.LENGTH)
    assert last.finish_reason == "length"
    assert len(arguments(answer)) == 1


def test_a_forced_call_that_is_cut_shows_no_marks() -> None:
    answer, last = ended('<tool_call>\n{"na', finish=Finish.LENGTH, forced=True)
    assert (answer.text, answer.tool_calls, last.finish_reason) == ("", [], "length")


def test_what_does_not_parse_stays_text() -> None:
    answer, last = ended("<tool_call> is how calls begin")
    assert (answer.text, answer.tool_calls, last.finish_reason) == ("<tool_call> is how calls begin", [], "stop")


def test_at_most_one_call_if_they_may_not_be_parallel() -> None:
    assert len(arguments(ended(CALL + "\n" + CALL)[0])) == 2
    assert len(arguments(ended(CALL + "\n" + CALL, parallel=False)[0])) == 1


def test_the_stop_string_that_ended_an_answer_is_named() -> None:
    assert ended("one, two, three", stop=("three", "two"))[1].stop_string == "two"
    assert ended("one, two, three", stop=("four",))[1].stop_string is None


def test_named_tokens_are_visible_although_they_are_special() -> None:
    known = tokenizer()
    ids = known.encode("<|im_start|>Hi", special=False)
    for marks, text in (((), "Hi"), (("<|im_start|>", "[UNKNOWN]"), "<|im_start|>Hi")):
        detokenizer = known.detokenizer(marks=marks)
        assert "".join(map(detokenizer.add, ids)) + detokenizer.finish() == text
    assert known.added_ids["<|im_start|>"] in ids
