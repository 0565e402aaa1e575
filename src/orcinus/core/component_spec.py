"""Components as one word, `name:option=value`, for flags, files and sweeps.

For example `sarathi:chunk_size=128` or `poisson:rate=2`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import TypeVar, get_args, get_type_hints

from orcinus.core.drafters import DRAFTERS
from orcinus.core.orders import ORDERS
from orcinus.core.policies import POLICIES
from orcinus.core.ports import BoundedDrafter, Order, Policy
from orcinus.errors import ConfigError, shown

T = TypeVar("T")
WORDS = {"true": True, "false": False, "none": None}
MOST = 10**15  # largest integer option: more is a mistake, and could fill the terminal
NAMES = {bool: "true or false", NoneType: "none"}


def make_policy(spelled: str) -> Policy:
    """The policy that `name` or `name:option=value:option=value` stands for.

    Raises `ConfigError` that lists the choices.
    """
    return make("policy", POLICIES, spelled)


def make_order(spelled: str) -> Order:
    """A new, empty queue of the order spelled so. Raises `ConfigError`."""
    return make("order", ORDERS, spelled)


def make_drafter(spelled: str) -> BoundedDrafter | None:
    """A new drafter of the kind spelled so; None for `none`. Raises `ConfigError`."""
    return make("drafter", DRAFTERS, spelled)


def spell(thing: Policy | Order) -> str:
    """The word that makes an equal policy or order.

    For a class that is not registered it is the class name.
    """
    names = {kind: name for known in (POLICIES, ORDERS) for name, kind in known.items()}
    if type(thing) not in names:
        return type(thing).__name__
    options = {key: (getattr(thing, key), default) for key, default in options_of(type(thing)).items()}
    return ":".join([names[type(thing)], *(f"{key}={_word(now)}" for key, (now, default) in options.items() if now != default)])


def options_of(kind: object) -> dict[str, object]:
    """The options of a dataclass, with their defaults.

    `dataclasses.MISSING` marks an option without a default. A function has no options.
    """
    return {field.name: field.default for field in fields(kind)} if is_dataclass(kind) else {}


def make(what: str, known: Mapping[str, Callable[..., T]], spelled: str) -> T:
    """The component that a word stands for, with its options.

    `known` maps names to dataclasses, whose fields are the options, or to functions without options. `what` is the noun for
    messages. Raises `ConfigError` that lists the names or options to choose from.
    """
    name, *options = spelled.split(":")
    if name not in known:
        raise ConfigError(f"unknown {what} {shown(name)}: choose {', '.join(known)}")
    choices = options_of(known[name])
    chosen: dict[str, object] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if key not in choices or not equals:
            choice = f"its options are {', '.join(choices)}" if choices else "it has no options"
            raise ConfigError(f"{what} {name!r} cannot take {shown(option)}: {choice} (as option=value)")
        annotation = get_type_hints(known[name])[key]
        chosen[key] = _value(annotation, value, f"option {key} of {what} {name!r}")
    missing = [key for key, default in choices.items() if default is MISSING and key not in chosen]
    if missing:
        raise ConfigError(
            f"{what} {name!r} needs {', '.join(missing)}: write {name}:{':'.join(f'{key}=...' for key in missing)}"
        )
    return known[name](**chosen)


def with_option(spelled: str, option: str, value: str) -> str:
    """`name:a=1:b=2` with one option set to another value, and put first."""
    name, *options = spelled.split(":")
    return ":".join([name, f"{option}={value}", *(each for each in options if not each.startswith(f"{option}="))])


def _word(value: object) -> str:
    return next((word for word, meaning in WORDS.items() if meaning is value), str(value))


def _value(annotation: object, text: str, what: str) -> object:
    """The text converted to one of the types of an annotation.

    `true`, `false` and `none` stand for themselves.
    """
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
                return _bounded(kind(text))
    choice = " or ".join(NAMES.get(kind, kind.__name__) if isinstance(kind, type) else repr(kind) for kind in kinds)
    most = ", at most 10^15" if int in kinds and len(text) > len(str(MOST)) else ""
    raise ConfigError(f"{what} must be {choice}{most}, not {shown(text)}")


def _bounded(value: object) -> object:
    if isinstance(value, int) and abs(value) > MOST:
        raise ValueError
    return value
