"""Server-sent events, as the standard reads them, however their bytes are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orcinus.bench.client.events import SSEDecoder


def events(*pieces: bytes) -> list[bytes]:
    stream = SSEDecoder()
    return [event for piece in pieces for event in stream.feed(piece)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_an_event_ends_with_an_empty_line(end: bytes) -> None:
    assert events(b"data: one" + end + end + b"data:two" + end) == [b"one"]
    assert events(b"data: one" + end + end + b"data:two" + end + end) == [b"one", b"two"]


def test_lines_of_data_are_joined() -> None:
    assert events(b'data: {"a":\ndata: 1}\n\n') == [b'{"a":\n1}']


def test_comments_and_other_fields_say_nothing() -> None:
    assert events(b": keep-alive\n\n:\n\nevent: x\nid: 3\nretry: 10\ndatabase: y\n\ndata: one\n\n") == [b"one"]


def test_only_one_space_belongs_to_the_colon() -> None:
    assert events(b"data:  x \n\n") == [b" x "]


def test_an_event_without_a_value_is_empty() -> None:
    assert events(b"data\n\ndata:\n\n") == [b"", b""]


def test_a_mark_of_byte_order_may_come_first_and_nowhere_else() -> None:
    assert events(b"\xef\xbb\xbfdata: one\n\n\xef\xbb\xbfdata: two\n\n") == [b"one"]


def test_an_event_that_is_cut_off_never_comes() -> None:
    assert events(b"data: one\n\ndata: two\n") == [b"one"]


def test_an_event_is_there_with_its_last_byte() -> None:
    """Also where lines end with CR: to wait for the LF that may follow would make tokens late."""
    assert events(b"data: one\r\r") == [b"one"]
    assert events(b"data: one\r\n\r", b"\ndata: two\r\n\r") == [b"one", b"two"]


PIECES = st.sampled_from(
    [b"data: {}", b"data:", b"data", b": c", b"id: 1", b"\r", b"\n", b"\r\n", b"\n\n", b"x", b"\xef\xbb\xbf", b""]
)


@given(st.lists(PIECES, max_size=12), st.data())
def test_cuts_change_nothing(parts: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(parts)
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    cut = [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]
    assert events(*cut) == events(whole) == events(*(bytes([byte]) for byte in whole))
