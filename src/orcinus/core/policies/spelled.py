"""A policy and its options as one word, so that flags, files and sweeps can name it: `request-level:release=each`."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from orcinus.core.policies import POLICIES
from orcinus.core.ports import Policy
from orcinus.errors import ConfigError


def make_policy(spelled: str) -> Policy:
    """`name` or `name:option=value:option=value`. Raises `ConfigError` naming what there is to choose from."""
    name, *options = spelled.split(":")
    if name not in POLICIES:
        raise ConfigError(f"unknown policy {name!r}: choose {', '.join(POLICIES)}")
    chosen: dict[str, object] = {}
    for option in options:
        key, equals, value = option.partition("=")
        known = policy_options(name)
        if key not in known or not equals:
            choice = f"its options are {', '.join(known)}" if known else "it has no options"
            raise ConfigError(f"policy {name!r} cannot take {option!r}: {choice} (as option=value)")
        chosen[key] = _value(name, key, value)
    return POLICIES[name](**chosen)


def policy_options(name: str) -> dict[str, object]:
    """The options of a policy and their defaults."""
    policy = POLICIES[name]
    return {field.name: field.default for field in fields(policy)} if is_dataclass(policy) else {}


def _value(policy: str, key: str, text: str) -> object:
    """The text as the type of the option's default."""
    kind: Any = type(policy_options(policy)[key])
    try:
        return kind(text)
    except ValueError:
        raise ConfigError(f"option {key} of policy {policy!r} must be of type {kind.__name__}, not {text!r}") from None
