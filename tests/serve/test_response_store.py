"""The store of responses: bounded, and each holder's own."""

from __future__ import annotations

from typing import Any

from orcinus.serve.response_store import ResponseStore

QUESTION = {"type": "message", "role": "user", "content": "Hi"}


def response(number: int, size: int = 0) -> dict[str, Any]:
    item = {"id": f"msg_{number}", "type": "message", "role": "assistant", "content": "x" * size}
    return {"id": f"resp-{number}", "output": [item]}


def test_what_was_stored_is_found_again_by_its_holder_alone() -> None:
    store = ResponseStore()
    assert store.add("a", response(1), [QUESTION])
    stored = store.find("a", "resp-1")
    assert stored is not None
    assert stored.conversation() == [QUESTION, *response(1)["output"]]
    assert store.home("a", "msg_1") == "resp-1"
    assert store.find("b", "resp-1") is None
    assert store.home("b", "msg_1") is None
    assert not store.remove("b", "resp-1")


def test_what_was_removed_leaves_nothing() -> None:
    store = ResponseStore()
    store.add("a", response(1), [QUESTION])
    assert store.remove("a", "resp-1")
    assert not store.remove("a", "resp-1")
    assert (store.count, store.bytes, store.home("a", "msg_1")) == (0, {}, None)


def test_the_oldest_go_first() -> None:
    store = ResponseStore(most_responses=2)
    for number in range(3):
        store.add("a", response(number), [])
    assert [store.find("a", f"resp-{number}") is not None for number in range(3)] == [False, True, True]


def test_the_holder_with_the_most_bytes_makes_room() -> None:
    store = ResponseStore(most_bytes=10_000)
    store.add("small", response(0, 1000), [])
    for number in range(1, 20):
        store.add("large", response(number, 1000), [])
    assert store.find("small", "resp-0") is not None
    assert sum(store.bytes.values()) <= 10_000
    assert store.find("large", "resp-19") is not None


def test_what_is_larger_than_the_store_is_not_stored() -> None:
    store = ResponseStore(most_bytes=1000)
    store.add("a", response(1, 100), [])
    assert not store.add("a", response(2, 2000), [])
    assert store.find("a", "resp-1") is not None
