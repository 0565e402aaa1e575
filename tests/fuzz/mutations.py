"""Strategies: right inputs with damage, as bytes and as JSON."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

NUMBERS = st.integers(-2, 300) | st.sampled_from(
    [2**31 - 1, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63) - 1, 10**30, 1e308, -0.0, 0.5]
)
TEXTS = st.text(max_size=12) | st.sampled_from(
    ["\x00", "\u202e", "\ud7ff", "a\nb", "../../etc/passwd", "%s", "{}", "x" * 5000, "🐋" * 99]
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
JUNK: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=6
)
GONE = object()


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes]) -> bytes:
    """One of the samples with bytes changed, cut out, put in, repeated or taken from another one."""
    data = bytearray(draw(st.sampled_from(samples)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        until = min(len(data), at + draw(st.integers(0, 16)))
        match draw(st.sampled_from(["change", "insert", "cut", "end", "repeat", "splice"])):
            case "change":
                data[at:until] = draw(st.binary(min_size=until - at, max_size=until - at))
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case "cut":
                del data[at:until]
            case "end":
                del data[at:]
            case "repeat":
                data[at:at] = data[at:until] * draw(st.integers(1, 50))
            case "splice":
                data[at:until] = draw(st.sampled_from(samples))[at:until]
    return bytes(data)


def places(node: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Where the values of a JSON value stand."""
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield (*above, key)
        yield from places(node[key], *above, key)


@st.composite
def spoiled(draw: st.DrawFn, sample: Any, junk: st.SearchStrategy[Any] = JUNK) -> Any:
    """A JSON value with one to three of its inner values changed, left out, wrapped, repeated or exchanged."""
    made = copy.deepcopy(sample)
    for _ in range(draw(st.integers(1, 3))):
        here = list(places(made))
        if not here:
            break
        *above, last = draw(st.sampled_from(here))
        inner = made
        for key in above:
            inner = inner[key]
        new = draw(_changed(inner[last], st.sampled_from(here).map(lambda place: _at(sample, place)) | junk))
        if new is GONE:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(new)  # it is shared, and may be damaged next
    return made


def _changed(old: Any, junk: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    ways = [junk, junk, st.just(GONE), st.just([old]), st.just({"type": old})]
    if isinstance(old, list | str):
        ways += [st.integers(2, 40).map(lambda times: old * times)]
    if isinstance(old, dict):
        ways += [st.tuples(TEXTS, junk).map(lambda field: old | {field[0]: field[1]})]
    return st.one_of(ways)


def _at(node: Any, place: tuple[Any, ...]) -> Any:
    """A copy of the value at a place; of the whole one if there is none."""
    found = node
    for key in place:
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError):
            return copy.deepcopy(node)
    return copy.deepcopy(found)


def words(text: str) -> list[str]:
    """The words of a text, to choose from."""
    return text.split()


def check_line(error: Exception, begins: str = "") -> None:
    """What a user is told is one line of bounded length."""
    said = str(error)
    assert said.startswith(begins), said
    assert "\n" not in said, said
    assert len(said) < 1000, said
