"""The list of checks; their modules add to it on import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from orcinus.conformance.target import ServerUnderTest
from orcinus.conformance.verdict import Skip

Body = Callable[[ServerUnderTest], None]


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist.

    Its name is `subject: what is right`.
    """

    name: str
    body: Body
    ours: bool = False  # about endpoints, limits or words that only Orcinus has: skipped elsewhere
    slow: bool = False  # waits for many seconds on purpose

    def run(self, target: ServerUnderTest) -> None:
        """Run the check: it returns if all is well.

        Raises `Failed` or `Skip`. Any other exception means an answer of an unexpected shape.
        """
        if self.ours and not target.is_orcinus:
            raise Skip("the server is not Orcinus")
        self.body(target)


CHECKS: dict[str, Check] = {}


def add(one: Check) -> None:
    """Add a check to the list."""
    if one.name in CHECKS:
        raise ValueError(f"there are two checks {one.name!r}")
    CHECKS[one.name] = one


def check(name: str, *, ours: bool = False, slow: bool = False) -> Callable[[Body], Body]:
    """A decorator that makes a function a check."""

    def register(body: Body) -> Body:
        add(Check(name, body, ours, slow))
        return body

    return register
