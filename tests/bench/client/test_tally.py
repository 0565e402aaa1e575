"""How many tokens an answer has and when each came, in the dialects of several servers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.bench.client.frames import read_frame, refusal_of
from orcinus.bench.client.tally import Tally
from tests.bench.client.fake import token, usage


def tally(*frames: dict[str, Any]) -> Tally:
    """Of frames that come a second apart."""
    found = Tally()
    for at, frame in enumerate(frames):
        found.add(read_frame(json.dumps(frame)), float(at))
    return found


def chat(content: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content, **fields}, "finish_reason": None}]}


LAST = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
COUNT = {"choices": [], "usage": usage(8, 3)}


def test_tokens_are_counted_by_their_ids() -> None:
    found = tally(token(1), token(2), token(3, last=True), COUNT)
    assert (found.output_tokens, found.timed, found.times) == (3, "tokens", [0, 1, 2])
    assert (found.known_by, found.prompt_tokens, found.ended) == ("token ids", 8, True)


def test_a_frame_with_several_tokens_has_a_moment_for_each() -> None:
    several = {"choices": [{"text": " a b", "token_ids": [2, 3]}]}
    assert tally(token(1), several).times == [0, 1, 1]


def test_a_token_without_text_is_a_token() -> None:
    """As when it is half a character, or may begin a stop string."""
    held_back = {"choices": [{"text": "", "token_ids": [2]}]}
    assert tally(held_back, token(3)).times == [0, 1]


def test_counts_in_every_frame_tell_tokens_apart() -> None:
    frames = [chat("a") | {"usage": usage(8, 2)}, chat("b") | {"usage": usage(8, 3)}, LAST | {"usage": usage(8, 4)}]
    found = tally(chat("", role="assistant") | {"usage": usage(8, 0)}, *frames)
    assert (found.known_by, found.timed, found.output_tokens, found.times) == ("continuous usage", "tokens", 4, [1, 1, 2, 3])


def test_with_a_count_at_the_end_only_frames_have_moments() -> None:
    found = tally(chat("", role="assistant"), chat("a b"), chat("c"), LAST, COUNT)
    assert (found.known_by, found.timed, found.output_tokens, found.times) == ("final usage", "frames", 3, [1, 2])


def test_a_count_with_the_last_frame_is_no_continuous_one() -> None:
    found = tally(chat("a b"), chat("c") | {"usage": usage(8, 3)})
    assert (found.timed, found.output_tokens, found.times) == ("frames", 3, [0, 1])


def test_ids_that_come_all_at_the_end_tell_no_moments() -> None:
    found = tally(chat("a"), chat("b") | {"usage": None}, {"choices": [{"delta": {"content": "c"}, "token_ids": [1, 2, 3]}]})
    assert (found.known_by, found.timed, found.times, found.output_tokens) == ("nothing", "frames", [0, 1, 2], None)


def test_frames_alone_are_no_count() -> None:
    found = tally(chat("a"), chat("b"), LAST)
    assert (found.output_tokens, found.timed, found.times, found.known_by) == (None, "frames", [0, 1], "nothing")


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning", "refusal"])
def test_thoughts_are_output(field: str) -> None:
    assert tally(chat(None, **{field: "hm"})).times == [0]


def test_calls_of_tools_are_output() -> None:
    assert tally(chat(None, tool_calls=[{"index": 0, "function": {"name": "f"}}])).times == [0]


def test_frames_of_other_kinds_say_nothing() -> None:
    found = tally(
        {"choices": [], "prompt_progress": {"total": 9}}, {"timings": {}}, {"choices": [{"index": 0}]}, {"choices": None}
    )
    assert (found.times, found.output(), found.ended) == ([], "", False)


def test_equal_outputs_have_equal_hashes() -> None:
    assert (
        tally(token(1), token(2)).output() == tally({"choices": [{"token_ids": [1, 2]}]}).output() != tally(token(1)).output()
    )
    assert tally(chat("a"), chat("b")).output() == tally(chat("ab")).output() != tally(chat("b")).output()


def test_counts_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="1000000000000 tokens"):
        tally({"choices": [], "usage": usage(8, 10**12)})


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20), st.booleans(), st.booleans())
def test_moments_fit_the_count(frames: list[tuple[int, bool]], with_ids: bool, with_counts: bool) -> None:
    """Whatever a server says: one moment for each token, or for each frame with text; never going backwards."""
    made, so_far = [], 0
    for tokens, says in frames:
        choice: dict[str, Any] = {"text": "x" if says else ""} | ({"token_ids": [7] * tokens} if with_ids else {})
        so_far += tokens
        made.append({"choices": [choice]} | ({"usage": usage(1, so_far)} if with_counts else {}))
    found = tally(*made)
    assert found.times == sorted(found.times)
    if found.timed == "tokens":
        assert len(found.times) == found.output_tokens == so_far
    else:
        assert len(found.times) == sum(says for _, says in frames)


@pytest.mark.parametrize(
    "frame",
    [{"error": {"message": "no memory", "code": 500}}, {"error": "no memory"}, {"object": "error", "message": "no memory"}],
)
def test_errors_in_a_stream_have_many_shapes(frame: dict[str, Any]) -> None:
    assert read_frame(json.dumps(frame)).failure() == "no memory"


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"error": {"message": "too long"}}', "status 400: too long"),
        (b'{"error": "too long"}', "status 400: too long"),
        (b'{"object": "error", "message": "too\\n long"}', "status 400: too long"),
        (b'{"detail": [{"msg": "x"}]}', 'status 400: [{"msg":"x"}]'),
        (b"<html>" + b"x" * 1000, "status 400: <html>" + "x" * 193 + "…"),
        (b"", "status 400"),
        (b"[1]", "status 400: [1]"),
    ],
)
def test_refusals_become_one_line(body: bytes, line: str) -> None:
    assert refusal_of(400, body) == line


def stream(*counts: int | None, prompt: int = 8) -> list[dict[str, Any]]:
    """Frames with text, each with a usage that has this count."""
    return [chat("x") | {"usage": {"prompt_tokens": prompt, "completion_tokens": count}} for count in counts]


@pytest.mark.parametrize(
    ("frames", "known_by", "count", "times"),
    [
        (stream(0, 0, 0), "nothing", None, [0, 1, 2]),
        ([*stream(0, 0, 0), LAST | {"usage": usage(0, 0)}], "nothing", None, [0, 1, 2]),
        ([*stream(0, 0, 0), {"choices": [], "usage": usage(8, 3)}], "final usage", 3, [0, 1, 2]),
        (stream(None, None, None), "nothing", None, [0, 1, 2]),
        ([*stream(None, None), COUNT], "final usage", 3, [0, 1]),
        (stream(1, 1, 1, 1), "nothing", None, [0, 1, 2, 3]),
        ([*stream(1, 1, 1, 1), {"choices": [], "usage": usage(8, 9)}], "final usage", 9, [0, 1, 2, 3]),
        ([*stream(1, 1), {"choices": [], "usage": usage(8, 9)}], "final usage", 9, [0, 1]),
        ([*stream(0, 1, 2), {"choices": [], "usage": usage(8, 3)}], "final usage", 3, [0, 1, 2]),  # one frame behind
        (stream(1, 2, 2, 3), "continuous usage", 3, [0, 1, 3]),  # a token in two frames
        (stream(4), "continuous usage", 4, [0, 0, 0, 0]),
    ],
)
def test_a_count_that_stands_still_tells_no_moments(
    frames: list[dict[str, Any]], known_by: str, count: int | None, times: list[int]
) -> None:
    found = tally(*frames)
    assert (found.known_by, found.output_tokens, found.times) == (known_by, count, times)
    assert found.timed == ("tokens" if known_by == "continuous usage" else "frames")


def test_an_answer_without_text_has_no_tokens() -> None:
    assert tally(LAST | {"usage": usage(8, 0)}).output_tokens == 0


@pytest.mark.parametrize(
    ("details", "cached"),
    [({"cached_tokens": 0}, 0), ({"cached_tokens": 64, "audio_tokens": None}, 64), (None, None), ({}, None), ([1], None)],
)
def test_cached_prompt_tokens_are_read_where_a_server_says_them(details: Any, cached: int | None) -> None:
    assert tally({"choices": [], "usage": usage(80, 3) | {"prompt_tokens_details": details}}).cached_tokens == cached
