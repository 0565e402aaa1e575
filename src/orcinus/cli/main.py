"""`orcinus`: the commands, and how errors look."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

import orcinus
from orcinus.cli.chat import chat
from orcinus.cli.demo import demo
from orcinus.cli.generate import generate
from orcinus.cli.info import info
from orcinus.cli.models import models
from orcinus.errors import OrcinusError

DEBUG = "--debug"
INTERRUPTED = 130  # the exit status that Typer gives Ctrl-C, and shells expect

app = typer.Typer(
    name="orcinus",
    help="An LLM serving engine that decides what to run once per iteration, not once per request.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
)
for command in (generate, chat, demo, models, info):
    app.command()(command)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error. May stand anywhere.")] = False,
) -> None:
    if version:
        print(orcinus.__version__)
        raise typer.Exit


def main() -> None:
    """Run a command. An error of ours is one line on stderr and exit status 1; Ctrl-C is status 130."""
    # Before torch loads: threads that spin while they wait make small models many times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:]
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = DEBUG in flags
    if debug:
        logging.basicConfig(level=logging.WARNING)
        logging.getLogger("orcinus").setLevel(logging.DEBUG)
    arguments = [flag for flag in flags if flag != DEBUG] + arguments[len(flags) :]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    try:
        app(arguments)
    except OrcinusError as error:
        if debug:
            raise
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)
        sys.exit(1)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise


if __name__ == "__main__":
    main()
