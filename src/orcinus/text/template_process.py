"""The process in which chat templates run.

`TemplateRenderer` starts it, with time and memory limits as arguments. A template is a program by the model's author, fed
with text from clients. Here it can harm only its own process: the kernel bounds the memory and ends the process when its
time is up, in the middle of any operation. The process loads the standard library and jinja2 alone, inherits no
environment, and ends soon after its parent.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

READY, TEXT, REFUSED, BROKEN, TOO_LONG, TOO_LARGE = range(6)  # values of a frame's status byte
FRAME = struct.Struct("!BQ")  # status (0 in requests) and bytes that follow
MOST_CHARACTERS = 32 * 2**20  # of a rendered conversation
MOST_SHOWN = 200  # characters of a template's own error message
WATCH_S = 5.0  # seconds between an idle process's checks of its parent


class Generation(jinja2.ext.Extension):
    """`{% generation %}`, a training mark: its body is shown unchanged."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """A call of the body, which has its own scope."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class Namespace(jinja2.utils.Namespace):
    """Jinja's `namespace`, without attributes that begin with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        named = dict(*rest, **kwargs)
        for name in named:
            _check_public(name)
        jinja2.utils.Namespace.__init__(self, named)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)


class Dict:
    """The `dict` that templates see.

    It can be called and has `fromkeys`; the type's other attributes are hidden.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """A dictionary with these keys."""
        return dict.fromkeys(*args)


def _check_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment() -> ImmutableSandboxedEnvironment:
    """The Jinja environment that models' templates expect: that of transformers."""
    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    made.filters["tojson"] = _tojson
    made.globals |= {
        "raise_exception": _raise_exception,
        "strftime_now": _strftime_now,
        "dict": Dict(),
        "namespace": Namespace,
    }
    return made


@lru_cache(maxsize=4)
def _compiled(template: str) -> jinja2.Template:
    return environment().from_string(template)


def answer(request: bytes) -> tuple[int, bytes]:
    """The status and text for a request; template errors are a status."""
    try:
        asked = json.loads(request)
        text = _compiled(asked["template"]).render(**asked["variables"])
        return (TOO_LONG, b"") if len(text) > MOST_CHARACTERS else (TEXT, text.encode())
    except jinja2.TemplateError as error:
        return REFUSED, _shown(str(error))
    except MemoryError:
        return TOO_LARGE, b""
    except Exception:  # of a template's expressions: any type
        return BROKEN, b""


def _shown(message: str) -> bytes:
    """A message as one line of bounded length."""
    line = " ".join(message[: 2 * MOST_SHOWN].split())
    return (line if len(line) <= MOST_SHOWN else line[:MOST_SHOWN] + "…").encode(errors="replace")


def bound_memory(size: int) -> None:
    """Limit this process to `size` more bytes, and write no core file.

    If the system runs out of memory, it ends this process first.
    """
    try:
        with open("/proc/self/statm", encoding="ascii") as numbers:
            size += int(numbers.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
            score.write("1000")
    except OSError:  # no Linux: addresses are bounded, where the system does that at all
        size += 2**30
    for bound, most in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(bound, (most, most))


def _receive(connection: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes. Raises `EOFError` if the parent is gone."""
    parts = []
    while size:
        part = connection.recv(min(size, 2**20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve(connection: socket.socket, limit_s: float) -> None:
    """Answer requests until the parent is gone.

    A request that takes longer than `limit_s` ends the process.
    """
    parent = os.getppid()
    connection.sendall(FRAME.pack(READY, 0))
    while True:
        while not select.select([connection], [], [], WATCH_S)[0]:
            if os.getppid() != parent:  # and another process still holds the other end
                return
        signal.setitimer(signal.ITIMER_REAL, limit_s)  # the kernel's timer: no Python operation can delay it
        _, size = FRAME.unpack(_receive(connection, FRAME.size))
        status, text = answer(_receive(connection, size))
        connection.sendall(FRAME.pack(status, len(text)) + text)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if status == TOO_LARGE:  # its remaining memory is fragmented
            return


def main() -> None:
    """Serve on standard input, which is a socket.

    Signals to a whole process group are ignored: the parent decides what they mean.
    """
    for sent in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sent, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    bound_memory(int(sys.argv[2]))
    with contextlib.suppress(EOFError, ConnectionError), socket.socket(fileno=0) as connection:
        serve(connection, float(sys.argv[1]))


if __name__ == "__main__":
    main()
