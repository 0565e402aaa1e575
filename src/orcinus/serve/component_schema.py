"""JSON Schema of policies, orders and other `name:option=value` strings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, get_args, get_type_hints

from pydantic import JsonValue

from orcinus.core.component_spec import options_of

VALUES = {
    int: "[1-9][0-9]{0,8}",
    float: r"(?:0\.0{0,3}[1-9][0-9]{0,3}|[1-9][0-9]{0,3}(?:\.[0-9]{1,3})?)",
    bool: "(?:true|false)",
    NoneType: "none",
}


def spelled_schema(known: Mapping[str, Callable[..., Any]]) -> dict[str, JsonValue]:
    """All component names, and patterns with options (`sarathi:chunk_size=128`)."""
    patterns: list[JsonValue] = [{"pattern": _pattern(name, kind)} for name, kind in known.items() if options_of(kind)]
    return {"anyOf": [{"enum": list(known)}, *patterns]}


def _pattern(name: str, kind: Callable[..., Any]) -> str:
    hints = get_type_hints(kind)
    options = "|".join(f"{option}={_value(hints[option])}" for option in options_of(kind))
    return f"^{re.escape(name)}(?::(?:{options}))+$"


def _value(annotation: Any) -> str:
    """The pattern of an option's values; of a `Literal` its words."""
    kinds = get_args(annotation) or (annotation,)
    return f"(?:{'|'.join(VALUES[kind] if isinstance(kind, type) else re.escape(kind) for kind in kinds)})"


def numbers_below(limit: int) -> str:
    """A pattern of the integers from 0 to limit - 1."""
    most = str(limit - 1)
    shorter = [f"[1-9][0-9]{{{length - 1}}}" for length in range(2, len(most))]
    same = [
        f"{most[:at]}[{least}-{int(digit) - 1}][0-9]{{{len(most) - at - 1}}}"
        for at, digit in enumerate(most)
        if int(digit) > (least := int(at == 0 and len(most) > 1))
    ]
    single = ["[0-9]"] if len(most) > 1 else []
    return f"^(?:{'|'.join([*single, *shorter, *same, most])})$"
