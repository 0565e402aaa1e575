"""Requests in the form of OpenAI's API: their lengths are those of a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from orcinus.errors import ConfigError, ModelError
from orcinus.tiny import MODEL_DIR
from orcinus.workload.arrival import Arrival
from orcinus.workload.token_counts import token_counter
from orcinus.workload.trace import Trace
from orcinus.workload.workload import make_workload

ASKED: list[dict[str, Any]] = [{"role": "system", "content": "be"}, {"role": "user", "content": "hello"}]
PARTS = [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]
ANSWERED: list[dict[str, Any]] = [*ASKED, {"role": "assistant", "content": "yes"}]


def written(folder: Path, lines: Sequence[Any], name: str = "trace.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def read(folder: Path, *lines: Any, answer: int | None = None) -> list[Arrival]:
    return list(Trace(written(folder, lines), answer=answer, reject_bad_rows=True).arrivals(len))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ({"messages": ANSWERED}, Arrival(0, 7, 3)),
        ({"messages": ANSWERED, "max_tokens": 9}, Arrival(0, 7, 3, max_tokens=9)),
        ({"messages": ANSWERED, "max_tokens": 2}, Arrival(0, 7, 2, max_tokens=2)),
        ({"messages": ASKED, "max_tokens": 9}, Arrival(0, 7, 9, max_tokens=9)),
        ({"messages": ASKED, "max_completion_tokens": 5, "max_tokens": 9}, Arrival(0, 7, 5, max_tokens=5)),
        ({"messages": ASKED, "max_completion_tokens": None, "max_tokens": 9}, Arrival(0, 7, 9, max_tokens=9)),
        ({"custom_id": "1", "method": "POST", "url": "/v1", "body": {"messages": ASKED, "max_tokens": 4}}, None),
        ({"body": {"model": "m", "messages": ANSWERED, "max_tokens": 4}}, Arrival(0, 10, 4, max_tokens=4)),  # a prefix to go on
        ({"messages": [{"role": "user", "content": PARTS}, *ANSWERED[-1:]]}, Arrival(0, 4, 3)),
        ({"messages": [*ASKED, {"role": "assistant", "content": None, "tool_calls": [1]}, *ANSWERED[-1:]]}, Arrival(0, 10, 3)),
    ],
)
def test_a_line_is_a_request(tmp_path: Path, line: dict[str, Any], found: Arrival | None) -> None:
    assert read(tmp_path, line, line) == [found or Arrival(0, 7, 4, max_tokens=4)] * 2


def test_answers_that_are_not_there_have_the_length_that_was_asked_for(tmp_path: Path) -> None:
    assert read(tmp_path, {"messages": ASKED}, answer=12) == [Arrival(0, 7, 12)]
    assert read(tmp_path, {"messages": ASKED, "max_tokens": 9}, answer=12) == [Arrival(0, 7, 9, max_tokens=9)]
    assert read(tmp_path, {"messages": ANSWERED}, answer=12) == [Arrival(0, 7, 3)]
    path = written(tmp_path, [{"messages": ASKED}])
    assert [each.output_tokens for each in make_workload("all-at-once", f"trace:file={path}:answer=12")] == [12]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"messages": ASKED}, "it says neither its answer nor max_tokens: say how long answers are with trace:file="),
        ({"messages": "hello"}, "messages must be a list of objects"),
        ({"messages": [1]}, "messages must be a list of objects"),
        ({"messages": [{"content": "x"}]}, "a message needs a role"),
        ({"messages": [{"role": "user", "content": 5}], "max_tokens": 1}, "the content of a message must be text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "max_tokens": 1}, "must be text, or parts"),
        ({"messages": [{"role": "user", "content": ""}], "max_tokens": 1}, "its messages hold no text"),
        ({"messages": [*ASKED, {"role": "assistant", "content": ""}]}, "its answer is empty"),
        ({"messages": ASKED, "max_tokens": 0}, "max_tokens must be a whole number of tokens of at least 1, not 0"),
        ({"body": {"messages": ASKED, "max_tokens": "many"}}, "max_tokens must be a number, not 'many'"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(tmp_path: Path, line: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"line 1 of .*: .*{message}"):
        read(tmp_path, line)


def test_lists_and_lines_of_both_forms_are_read(tmp_path: Path) -> None:
    shared = {"conversations": [{"from": "human", "value": "ab"}, {"from": "gpt", "value": "cde"}]}
    (tmp_path / "list.json").write_text(json.dumps([shared, {"messages": ANSWERED}]))
    expected = [(2, 3), (7, 3)]
    for path in (str(tmp_path / "list.json"), written(tmp_path, [shared, {"messages": ANSWERED}])):
        trace = Trace(path)
        assert (trace.kind.timed, trace.kind.text) == (False, True)
        assert [(each.prompt_tokens, each.output_tokens) for each in trace.arrivals(len)] == expected


def test_tokens_are_those_of_the_bundled_model_or_of_another_and_it_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, [{"messages": ANSWERED}])
    count = token_counter()
    (found,) = Trace(path).arrivals()
    assert (found.prompt_tokens, found.output_tokens) == (count("be") + count("hello"), count("yes"))
    workload = make_workload("all-at-once", f"trace:file={path}")
    assert workload.notes() == [f"tokens of the texts in {path} are those of the bundled model's tokenizer"]
    given = f"trace:file={path}:tokenizer={MODEL_DIR}"
    assert list(make_workload("all-at-once", given)) == [found]
    assert make_workload("all-at-once", given).notes() == [
        f"tokens of the texts in {path} are those of the tokenizer in {MODEL_DIR}"
    ]
    assert token_counter(str(MODEL_DIR / "tokenizer.json"))("hello") == count("hello")


def test_a_tokenizer_that_there_is_not_is_refused_whatever_rows_may_be_skipped(tmp_path: Path) -> None:
    path = written(tmp_path, [{"messages": ANSWERED}])
    with pytest.raises(ConfigError, match="there is no tokenizer in"):
        list(Trace(path, tokenizer=str(tmp_path)).arrivals())
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        list(Trace(path, tokenizer=str(tmp_path)).arrivals())
