"""The one line that an exception becomes says what went wrong, whatever exception it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orcinus.cli import main as command_line
from orcinus.errors import ConfigError, OrcinusError, cause, one_line
from orcinus.parent import describe_exit
from tests.commands import orcinus


def raised(error: BaseException, origin: BaseException | None = None) -> BaseException:
    def in_here() -> None:
        raise error from origin

    try:
        in_here()
    except BaseException as caught:
        return caught
    raise AssertionError


class Silent(Exception):
    def __str__(self) -> str:
        raise ValueError("it cannot even say this")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RuntimeError("boom"), "RuntimeError: boom"),
        (RuntimeError("\n  first   line\nframes of a library\n"), "RuntimeError: first line"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError(), r"RuntimeError in in_here \(test_errors.py, line \d+\)"),
        (RuntimeError("  \n"), r"RuntimeError in in_here \(test_errors.py, line \d+\)"),
        (AssertionError(), r"AssertionError in in_here \(test_errors.py, line \d+\)"),
        (MemoryError(), r"MemoryError in in_here \(test_errors.py, line \d+\)"),
        (Silent(), r"Silent in in_here \(test_errors.py, line \d+\)"),
        (RuntimeError("x" * 1000), "RuntimeError: x{299}…"),
    ],
)
def test_an_exception_in_one_line(error: BaseException, line: str) -> None:
    import re

    assert re.fullmatch(line, cause(raised(error)))


def test_one_without_a_message_tells_that_of_the_one_before() -> None:
    line = cause(raised(RuntimeError(), OSError(28, "No space left on device")))
    assert line.endswith(", after OSError: [Errno 28] No space left on device")


def test_a_message_alone_and_never_nothing() -> None:
    assert one_line(ConfigError("choose another")) == "choose another"
    assert one_line(OrcinusError("two\n  lines\n")) == "two lines"
    assert one_line(raised(ConfigError())).startswith("ConfigError in in_here")
    assert one_line(TimeoutError()) == "TimeoutError"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3, "ended with status 3"),
        (-11, "was killed by SIGSEGV"),
        (-9, "was killed by SIGKILL (when memory runs out"),
        (-60, "signal 60"),
    ],
)
def test_how_a_process_ended(status: int, words: str) -> None:
    assert words in describe_exit(status)


def fails(error: Exception) -> Callable[..., None]:
    def command(*_: object) -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (RuntimeError(), r"error: cannot go on: RuntimeError in command (test_errors.py, line "),
        (ZeroDivisionError("division by zero"), "error: cannot go on: ZeroDivisionError: division by zero"),
        (PermissionError(13, "Permission denied", "/a/file"), "error: cannot go on: /a/file: Permission denied"),
        (OSError(), "error: cannot go on: OSError in command (test_errors.py, line "),
        (OSError("no temporary folder"), "error: cannot go on: no temporary folder"),
    ],
)
def test_the_last_line_of_a_command_says_the_cause(monkeypatch: pytest.MonkeyPatch, error: Exception, last: str) -> None:
    monkeypatch.setattr(command_line, "_run", fails(error))
    monkeypatch.setattr("os.dup2", lambda *_: None)
    done = orcinus("models")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(last)
