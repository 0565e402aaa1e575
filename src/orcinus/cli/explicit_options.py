"""Options the user set explicitly; those that would be ignored are refused."""

from __future__ import annotations

from collections.abc import Iterable

import typer

from orcinus.cli.options import NAMED
from orcinus.errors import ConfigError


def explicit_options(context: typer.Context) -> list[str]:
    """Names of the options the user set explicitly."""
    return [name for name in context.params if getattr(context.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"]


def refuse(names: Iterable[str], without: Iterable[str], reason: str) -> None:
    """Raise `ConfigError` if one of the names is in `without`."""
    for name in names:
        if name in without:
            flag = "the argument MODEL" if name == NAMED else "--" + name.replace("_", "-")
            raise ConfigError(f"{flag} {reason}")
