"""Drafters of speculative decoding. One drafter a file, and one line here."""

from __future__ import annotations

from collections.abc import Callable

from orcinus.core.drafters.ngram import Ngram
from orcinus.core.ports import BoundedDrafter


def none() -> None:
    """No drafts."""


DRAFTERS: dict[str, Callable[..., BoundedDrafter | None]] = {"none": none, "ngram": Ngram}

__all__ = ["DRAFTERS", "Ngram"]
