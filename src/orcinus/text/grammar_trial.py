"""Grammars tried in a process that can be killed, before an engine compiles them (ADR 36)."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text import grammar_process as child
from orcinus.text.bounded_process import BoundedProcesses, ProcessEnded, ProcessLimits
from orcinus.text.grammar_source import MOST_CHARACTERS

COMPILE_S = 4.0  # most seconds of one trial
COMPILE_BYTES = 2**30  # most memory of one trial
MOST_PROCESSES = 2  # trials at once
TOO_LARGE = "it is too large or nested too deeply: shorten it"

_processes = BoundedProcesses(
    child.__name__, ProcessLimits(COMPILE_S, COMPILE_BYTES, 8 * MOST_CHARACTERS, MOST_PROCESSES)
)  # fmt: skip


def try_form(wanted: StructuredOutputs, tokenizer: str, eos_ids: tuple[int, ...]) -> str:
    """A form's grammar in llguidance's notation, known to compile.

    `tokenizer` is the text of a tokenizer.json. Raises `RequestError` naming the kind of form.
    """
    kind, value = wanted.kind, getattr(wanted, wanted.kind)
    size = sum(map(len, value)) if isinstance(value, tuple) else len(value) if isinstance(value, str) else 0
    if size > MOST_CHARACTERS:
        raise RequestError(f"{kind}: {size} characters are more than {MOST_CHARACTERS}", kind)
    vocabulary = _digest(tokenizer, eos_ids)
    asked = json.dumps({"vocabulary": vocabulary, "form": {kind: value}}).encode()
    try:
        status, text = _processes.ask(asked)
        if status == child.UNKNOWN:
            known = json.dumps({"vocabulary": vocabulary, "tokenizer": tokenizer, "eos_ids": eos_ids}).encode()
            status, text = _processes.ask(known, asked)
    except ProcessEnded as end:
        raise RequestError(f"{kind}: {_told(end)}", kind) from None
    if status == child.COMPILED:
        return text
    message, field = json.loads(text)
    if field == "structured_outputs":
        raise RequestError(message, field)
    raise RequestError(f"{kind}: {message}", kind)


def _told(end: ProcessEnded) -> str:
    if not end.started:
        return f"the process that compiles it does not start (status {end.status})"
    return f"compiling it takes longer than {COMPILE_S:g} s: shorten it" if end.took_too_long else TOO_LARGE


@lru_cache(16)
def _digest(tokenizer: str, eos_ids: tuple[int, ...]) -> str:
    return hashlib.sha256(f"{eos_ids}{tokenizer}".encode()).hexdigest()
