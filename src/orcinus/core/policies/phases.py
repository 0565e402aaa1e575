"""Decodes and prompts: the distinction most policies make."""

from __future__ import annotations

from collections.abc import Iterable

from orcinus.core.request import Request
from orcinus.errors import ConfigError, shown


def by_phase(requests: Iterable[Request]) -> tuple[list[Request], list[Request]]:
    """Decodes, and requests with more than one pending token.

    The latter are fresh prompts, chunks of prompts, and recomputations.
    """
    decodes: list[Request] = []
    prompts: list[Request] = []
    for request in requests:
        (decodes if request.decoding else prompts).append(request)
    return decodes, prompts


def at_least(name: str, value: object, least: int) -> None:
    """Raise `ConfigError` unless an option is an integer of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {shown(value)}")
