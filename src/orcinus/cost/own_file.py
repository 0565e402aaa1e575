"""Fields of files that describe a device or network of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from orcinus.errors import ConfigError

T = TypeVar("T")


def only_fields(content: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    """Raise `ConfigError` for the first field that is not known; `what` has them."""
    unknown = [name for name in content if name not in known]
    if unknown:
        raise ConfigError(f"{what} has no field {unknown[0]!r}: it has {', '.join(known)}")


def find_base(content: Mapping[str, Any], known: Mapping[str, T]) -> T | None:
    """The known one that the field `like` names; None without that field.

    Raises `ConfigError` that lists the names if there is none.
    """
    like = content.get("like")
    if like is None:
        return None
    if not isinstance(like, str) or like not in known:
        raise ConfigError(f"`like` must be one of {', '.join(known)}, not {like!r}")
    return known[like]
