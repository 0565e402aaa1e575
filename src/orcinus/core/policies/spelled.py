"""A policy and its options as one word, so that flags, files and sweeps can name it: `request-level:release=each`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import get_args, get_type_hints

from orcinus.core.policies import POLICIES
from orcinus.core.ports import Policy
from orcinus.errors import ConfigError

WORDS = {"true": True, "false": False, "none": None}
NAMES = {bool: "true or false", NoneType: "none"}


def make_policy(spelled: str) -> Policy:
    """`name` or `name:option=value:option=value`, in which true, false and none stand for themselves.

    Raises `ConfigError` naming what there is to choose from.
    """
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
    """The text as one of the types that the option is annotated with."""
    annotation = get_type_hints(POLICIES[policy])[key]
    kinds = get_args(annotation) or (annotation,)
    for kind in kinds:
        if not isinstance(kind, type):  # a word of a Literal
            if text == kind:
                return text
        elif kind in (bool, NoneType):
            if text.lower() in WORDS and isinstance(WORDS[text.lower()], kind):
                return WORDS[text.lower()]
        else:
            with suppress(ValueError):
                return kind(text)
    choice = " or ".join(NAMES.get(kind, kind.__name__) if isinstance(kind, type) else repr(kind) for kind in kinds)
    raise ConfigError(f"option {key} of policy {policy!r} must be {choice}, not {text!r}")
