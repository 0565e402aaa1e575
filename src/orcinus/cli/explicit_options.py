"""Which options somebody gave: those that would be ignored are refused."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from orcinus.cli.options import NAMED
from orcinus.errors import ConfigError


def given(context: typer.Context) -> list[str]:
    """The parameters of the command that do not have their defaults because nobody said anything."""
    return [name for name in context.params if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]


def refuse(names: Iterable[str], without: Iterable[str], reason: str) -> None:
    """Raise `ConfigError` if one of the names is among those that cannot be."""
    for name in names:
        if name in without:
            flag = "the argument MODEL" if name == NAMED else "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} {reason}")
