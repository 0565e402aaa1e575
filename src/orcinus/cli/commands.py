"""The commands of `orcinus` by name, each loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import typer
from typer.core import TyperGroup

MARKUP: Final = "markdown"
NAMES = (  # each is a function of that name, or `app`, in the module of that name; in the order of the help
    "generate",
    "chat",
    "batch",
    "demo",
    "models",
    "pull",
    "info",
    "licenses",
    "plan",
    "verify",
    "serve",
    "top",
    "conformance",
    "show",
    "trace",
    "replay",
    "simulate",
    "calibrate",
    "profile",
    "capacity",
    "sweep",
    "reproduce",
    "bench",
)


class Commands(TyperGroup):
    """A group that imports a command's module when the command is run or described."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = dict.fromkeys(NAMES)  # type: ignore[assignment]  # loaded by `get_command`

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None if there is none of that name."""
        if cmd_name not in NAMES:
            return None
        if self.commands[cmd_name] is None:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands[cmd_name]


def _load(name: str) -> Any:
    if name == "bench":
        return typer.main.get_command(import_module("orcinus.cli.bench.app").app)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=MARKUP)
    alone.command(name)(getattr(import_module(f"orcinus.cli.{name}"), name))
    return typer.main.get_command(alone)
