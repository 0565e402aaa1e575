"""The verdicts of checks: failed, skipped, or fine."""

from __future__ import annotations


class Failed(Exception):
    """A check failed; the message says what the server did instead."""


class Skip(Exception):
    """The check does not apply to this server; the message says why."""


def expect(holds: object, otherwise: str) -> None:
    """Raise `Failed` with `otherwise` unless `holds`.

    An `assert` would vanish under `python -O`.
    """
    if not holds:
        raise Failed(otherwise)


def expect_equal(found: object, wanted: object, what: str) -> None:
    """Raise `Failed` that shows both values unless they are equal."""
    expect(found == wanted, f"{what} is {shown(found)}, not {shown(wanted)}")


def shown(value: object, most: int = 60) -> str:
    """A value as part of a one-line message."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."
