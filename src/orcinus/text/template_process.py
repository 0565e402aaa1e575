"""The process in which chat templates run.

A template is a program by the model's author, fed
with text from clients. Here it can harm only its own process: the kernel bounds the memory and ends the process when its
time is up, in the middle of any operation. The process loads the standard library and jinja2 alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any

import jinja2
import jinja2.ext
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from orcinus.text.bounded_child import run

TEXT, REFUSED, BROKEN, TOO_LONG, TOO_LARGE = range(1, 6)  # statuses of answers
MOST_CHARACTERS = 32 * 2**20  # of a rendered conversation
MOST_SHOWN = 200  # characters of a template's own error message


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


if __name__ == "__main__":
    run(answer, last=(TOO_LARGE,))  # its remaining memory is fragmented
