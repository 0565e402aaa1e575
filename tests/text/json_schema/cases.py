"""A schema of an application, with answers that it allows and forbids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """A schema that compiles, or the beginning of the message that refuses it.

    `right` can be written. `wrong` cannot: it breaks the schema, or has members that it does not declare.
    """

    schema: Any
    right: tuple[Any, ...] = ()
    wrong: tuple[Any, ...] = ()
    refused: str = ""
    standard: bool = True  # a validator of JSON Schema reads it as it is meant
