"""Names and lines in pictures, whatever a user calls things."""

from __future__ import annotations

import pytest

from orcinus.plots.style import LONGEST, legible, mixed_styles


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("stall-free:token_budget=64", "stall-free:token_budget=64"),
        ("$\\alpha$", r"\$\alpha\$"),
        ("_hidden", " _hidden"),
        ("two\nlines\tand 日本", "two lines and ??"),
        ("x" * 50, "x" * (LONGEST - 1) + "…"),
    ],
)
def test_names_are_shown_as_text(name: str, shown: str) -> None:
    assert legible(name) == shown


def test_lines_differ_in_more_than_colour() -> None:
    looks = mixed_styles()
    assert len({tuple(look.values()) for look in looks}) == len(looks) == 28
    assert all(one["linestyle"] != other["linestyle"] for one, other in zip(looks, looks[1:], strict=False))
