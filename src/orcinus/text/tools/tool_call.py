"""Tools, their calls, and the protocol of forms of calls."""

from __future__ import annotations

import secrets
import string
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from orcinus.errors import RequestError, shown

CHARACTERS = string.ascii_letters + string.digits

# The id of a mark that is one special token of the model; None for a mark that is ordinary text.
TokenId = Callable[[str], int | None]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call.

    `parameters` is the JSON Schema of its arguments, an object; None = it takes none. `strict`: arguments must follow it.
    """

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model must call tools, may or may not.

    With a `name`, it must call that tool, once.
    """

    mode: Literal["auto", "none", "required"] = "auto"
    name: str | None = None

    @property
    def forced(self) -> bool:
        """Whether the answer consists of calls and nothing else."""
        return self.mode == "required" or self.name is not None


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a call in a streamed answer.

    A call's first delta has its `id` and `name`; the joined `arguments` of all its deltas are JSON text, complete unless
    the answer was cut or the model broke the form.
    """

    index: int  # place of the call in the answer
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class ToolParser(Protocol):
    """Separates the calls in one answer from its other text.

    What it returns, joined, does not depend on where the text is cut.
    """

    def add(self, text: str) -> tuple[str, list[ToolCallDelta]]:
        """Add text; returns the content and the deltas that are now certain."""
        ...

    def finish(self) -> tuple[str, list[ToolCallDelta]]:
        """The held-back rest, at the end of the answer."""
        ...


class ToolForm(Protocol):
    """The form in which a family of models writes calls."""

    @property
    def name(self) -> str:
        """Its name in `FORMS`."""
        ...

    @property
    def marks(self) -> tuple[str, ...]:
        """Tokens that must stay visible in the text, even if special."""
        ...

    def parser(self, tools: Sequence[Tool]) -> ToolParser:
        """A parser for one answer."""
        ...

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, *, parallel: bool, token_id: TokenId) -> str | None:
        """The grammar of answers in llguidance's Lark; None = any text.

        Forced calls: the answer is a call or, with `parallel` and no name, several. Otherwise, if a tool is strict: text in
        which the arguments of calls follow the schemas of strict tools. Raises `RequestError` for an unknown tool, and for a
        schema that the form cannot express.
        """
        ...


def check_arguments(schema: Mapping[str, Any] | None, place: str) -> None:
    """Raise `RequestError` for a schema of arguments that are no object."""
    kind = (schema or {}).get("type", "object")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        reason = f"the type must be 'object', because arguments have names; it is {shown(kind)}"
        raise RequestError(f"{place}: {reason}", place)


def join_deltas(deltas: Iterable[ToolCallDelta]) -> list[ToolCallDelta]:
    """One delta for each call, in order."""
    calls = defaultdict[int, list[ToolCallDelta]](list)
    for delta in deltas:
        calls[delta.index].append(delta)
    return [replace(parts[0], arguments="".join(part.arguments for part in parts)) for _, parts in sorted(calls.items())]


def random_id(prefix: str = "call_", length: int = 24) -> str:
    """A random id of a call."""
    return prefix + "".join(secrets.choice(CHARACTERS) for _ in range(length))
