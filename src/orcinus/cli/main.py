"""`orcinus`: the commands, and the form of errors."""

from __future__ import annotations

import errno
import io
import logging
import os
import sys
import traceback
from typing import Annotated, Any, NoReturn

import typer

import orcinus
from orcinus import interrupt
from orcinus.cli.commands import MARKUP, Commands
from orcinus.cli.errors import print_error
from orcinus.errors import OrcinusError, cause, one_line

DEBUG = "--debug"
UsageError: Any = typer.BadParameter.__bases__[0]  # of typer's own click, or of the installed one

app = typer.Typer(
    name="orcinus",
    cls=Commands,
    help="An LLM serving engine that decides what to run once per iteration, not once per request.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=MARKUP,
)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error. May stand anywhere.")] = False,
) -> None:
    if version:
        print(orcinus.__version__)
        raise typer.Exit


def run() -> None:
    """Run a command.

    An error of ours is one line on stderr and exit status 1; Ctrl-C is status 130.
    """
    arguments = sys.argv[1:]
    flags = arguments[: arguments.index("--")] if "--" in arguments else arguments
    debug = DEBUG in flags
    if debug:
        logging.basicConfig(level=logging.WARNING)
        logging.getLogger("orcinus").setLevel(logging.DEBUG)
    _prepare_streams()
    try:
        _run([flag for flag in flags if flag != DEBUG] + arguments[len(flags) :])
    except OrcinusError as error:
        if debug:
            raise
        _fail(str(error))
    except OSError as error:
        if debug:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # unwritten output is not written again at exit
        of = f"{error.filename}: " if error.filename is not None else ""
        _fail("" if error.errno == errno.EPIPE else f"cannot go on: {of}{error.strerror or one_line(error)}")
    except Exception as error:
        if debug:
            raise
        traceback.print_exc()
        _fail(f"cannot go on: {cause(error)}")


def _run(arguments: list[str]) -> NoReturn:
    try:
        status = app(arguments, prog_name="orcinus", standalone_mode=False)
    except UsageError as error:
        status = 2
        if message := error.format_message():  # empty after the help of a command without arguments
            where = f": see {error.ctx.command_path} --help" if error.ctx is not None else ""
            print_error(" ".join(message.split()).rstrip(".") + where)
    except SystemExit as end:
        status = end.code
    if status == interrupt.STATUS:
        print("interrupted", file=sys.stderr)
    sys.stdout.flush()
    sys.exit(status)


def _prepare_streams() -> None:
    """Make the standard streams usable, also where the shell closed them."""
    closed = sys.stdout is None  # as after `>&-`
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows a question mark
    if closed:
        _fail("standard output is closed: give it a terminal, a file or a pipe")


def _fail(message: str) -> NoReturn:
    if message:
        print_error(message)
    sys.exit(1)
