"""Fields of a `quantization_config`, checked, and the rules that name modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orcinus.errors import ModelError
from orcinus.model_config import shown

BITS = (2, 3, 4, 5, 6, 7, 8)
MOST_GROUP = 2**20
MOST_RULES = 2**16


def choice(settings: Mapping[str, Any], name: str, known: Sequence[Any], otherwise: Any = None) -> Any:
    """A field that has one of these values. Raises `ModelError`."""
    found = settings.get(name, otherwise)
    if found is None:
        found = otherwise
    if isinstance(found, str):
        found = found.lower()
    if any(found is each or (type(found) is type(each) and found == each) for each in known):
        return found
    raise ModelError(f"{name} {shown(found)} is not supported: known are {', '.join(map(str, known))}")


def flag(settings: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    """A field that is on or off. Raises `ModelError`."""
    return bool(choice(settings, name, (True, False), otherwise))


def group_size(settings: Mapping[str, Any], otherwise: int | None = None) -> int | None:
    """Inputs that share a scale; None (-1 in files): all. Raises `ModelError`."""
    found = settings.get("group_size", otherwise)
    if found is None or found == -1:
        return None
    if isinstance(found, bool) or not isinstance(found, int) or not 1 <= found <= MOST_GROUP:
        raise ModelError(f"group_size {shown(found)} is not supported: it must be -1 or a number of inputs")
    return found


def block_size(value: Any, name: str) -> tuple[int, int]:
    """Outputs and inputs of a block. Raises `ModelError`."""
    if not (
        isinstance(value, list) and len(value) == 2 and all(type(size) is int and 1 <= size <= MOST_GROUP for size in value)
    ):
        raise ModelError(f"{name} must be two sizes, not {shown(value)}")
    return value[0], value[1]


def names(settings: Mapping[str, Any], *fields: str) -> tuple[str, ...]:
    """The names that lists in these fields hold. Raises `ModelError`."""
    found: list[str] = []
    for name in fields:
        listed = settings.get(name) or []
        if not isinstance(listed, list) or len(listed) > MOST_RULES or not all(isinstance(each, str) for each in listed):
            raise ModelError(f"{name} must be a list of module names, not {shown(listed)}")
        found += listed
    return tuple(found)


def objects(value: Any, name: str) -> Mapping[str, Any]:
    """An object; empty for null. Raises `ModelError`."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ModelError(f"{name} must be an object, not {shown(value)}")
    return value


@dataclass(frozen=True, slots=True)
class ModuleRules:
    """Names of modules, and patterns behind `re:`, as compressed-tensors writes them."""

    rules: tuple[str, ...]

    def match(self, module: str) -> bool:
        """Whether a rule names a module, or a parent of it. Raises `ModelError` for a broken pattern."""
        return any(_matches(rule, module) for rule in self.rules)


def _matches(rule: str, module: str) -> bool:
    if rule.startswith("re:"):
        return matches_pattern(rule[3:], module)
    return module == rule or module.startswith(f"{rule}.") or f".{rule}." in f".{module}."


def matches_pattern(pattern: str, module: str) -> bool:
    """Whether a regular expression matches the beginning of a module's name. Raises `ModelError`."""
    try:
        return re.match(pattern, module) is not None
    except re.error as error:
        raise ModelError(f"{shown(pattern)} is not a regular expression: {error}") from None


def unsupported(settings: Mapping[str, Any], *fields: str, known: Iterable[Any] = (None, {}, [], False)) -> None:
    """Raise `ModelError` for a field that would change what weights mean."""
    for name in fields:
        if settings.get(name) not in known:
            raise ModelError(f"{name} is not supported: use a checkpoint without it")
