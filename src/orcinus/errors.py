"""Every exception that Orcinus raises on purpose.

    OrcinusError
    ├── ConfigError            the engine was asked for something that cannot be built
    │   └── ModelError         the model folder, its config or its weights cannot be used
    ├── RequestError           one request cannot be served; the engine and its neighbours are unharmed
    │   └── RequestFailed      it was accepted and then failed while running
    ├── ReplayDiffers          a recorded run came to another decision when it was replayed
    └── EngineError            a defect in a policy or an executor made loud
        ├── PolicyError        a policy granted what it may not grant
        └── Stalled            requests wait, nothing is in flight, and the policy selects nothing

Messages are single lines that say what is wrong and what to do. The command line prints them without a traceback.
"""

from __future__ import annotations

import reprlib

LONGEST_SHOWN = 120
_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80


def shown(value: object) -> str:
    """A value's repr, cut to 120 characters."""
    return shortened(_short.repr(value))


def printable(text: str) -> str:
    """The text in one line: line breaks and whatever else cannot be printed are escaped, as `repr` does."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shortened(text: str) -> str:
    """At most 120 characters of a text."""
    return text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + "..."


def plural(number: int, noun: str) -> str:
    """`1 repeat`, `5 repeats`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class OrcinusError(Exception):
    """Base of all exceptions that Orcinus raises on purpose."""


class ConfigError(OrcinusError, ValueError):
    """The engine was asked for something that cannot be built.

    Its message is one line whatever it quotes: names in a file may hold newlines or a terminal's control characters.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message))


class ModelError(ConfigError):
    """The model folder, its config or its weights cannot be used."""


class RequestError(OrcinusError, ValueError):
    """One request cannot be served; nothing else is affected.

    `field` names the parameter at fault, if there is one.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class RequestFailed(RequestError):
    """An accepted request failed while it ran, for example by bad logits.

    `outputs` holds what `LLM.generate` would have returned; failed requests have `finish_reason == "failed"`.
    """

    def __init__(self, message: str, outputs: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.outputs = outputs


class EngineError(OrcinusError, RuntimeError):
    """A defect in a policy or an executor, not in a request."""


class PolicyError(EngineError):
    """A policy granted an unknown, finished, in-flight or already granted request."""


class Stalled(EngineError):
    """Requests wait, but nothing runs and the policy selected nothing."""


class ReplayDiffers(OrcinusError):
    """A replay came to another decision than its record."""


LONGEST_CAUSE = 300  # characters


def cause(error: BaseException) -> str:
    """An exception in one line: its type and first line, or where.

    An exception without a message is often raised from one that has one, so the innermost message of the chain is included.
    """
    kind = type(error).__name__
    if message := _message(error, lines=1):  # libraries add frames of their own below
        return f"{kind}: {message}"
    origin: BaseException | None = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    reason = f", after {cause(origin)}" if origin is not None else ""
    return f"{kind}{_place(error)}{reason}"


def one_line(error: BaseException) -> str:
    """An exception's message in one line; its `cause` if it has none."""
    return _message(error) or cause(error)


def unreadable(error: BaseException, mend: str = "") -> str:
    """Why a file cannot be read, and what to do: `mend`, unless this user may not read it."""
    if isinstance(error, PermissionError):
        return f"{error.strerror or error}: give this user the right to read it"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    return f"{reason}; {mend}" if mend else reason


def _message(error: BaseException, lines: int | None = None) -> str:
    try:
        message = " ".join(" ".join(str(error).strip().splitlines()[:lines]).split())
    except Exception:  # an exception that cannot be printed
        return ""
    return message if len(message) <= LONGEST_CAUSE else message[: LONGEST_CAUSE - 1] + "…"


def _place(error: BaseException) -> str:
    """The place that raised: ` in function (file.py, line 7)`."""
    traceback = error.__traceback__
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return f" in {code.co_name} ({code.co_filename.rpartition('/')[2]}, line {traceback.tb_lineno})"
