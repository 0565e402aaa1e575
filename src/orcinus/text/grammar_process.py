"""The process in which grammars are tried first.

Clients write grammars, and some are too much for llguidance: they take minutes, gigabytes, or more stack than there is. Here
they can harm only their own process. A grammar that compiles here, and whose first tokens take little time, is safe to
compile elsewhere.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orcinus.core.structured_outputs import StructuredOutputs
from orcinus.errors import RequestError
from orcinus.text.bounded_child import READY, run
from orcinus.text.grammar_source import MOST_CHARACTERS, compiled, ll_tokenizer, to_llguidance, with_schema_place

if TYPE_CHECKING:
    from llguidance import LLTokenizer

COMPILED, REFUSED, UNKNOWN = range(1, 4)  # statuses of answers; the last: send the vocabulary first
STACK_BYTES = 4 * 2**20  # a quarter of what a grammar's thread has in an engine
FOLLOWED = 32  # tokens
STEP_S, FOLLOW_S = 0.1, 0.3  # most CPU seconds of one token, and of all of them
VOCABULARIES = 4  # kept
COSTLY = "it takes too long to follow: shorten its constants and patterns, or let its rules leave fewer ways to read a text"

_tokenizers: OrderedDict[str, LLTokenizer] = OrderedDict()  # by the digest of their vocabulary


def answer(request: bytes) -> tuple[int, bytes]:
    """The grammar of a form as llguidance's text, or why it is refused."""
    asked = json.loads(request)
    try:
        if "tokenizer" in asked:
            _learn(asked["vocabulary"], asked["tokenizer"], asked["eos_ids"])
            return READY, b""
        if asked["vocabulary"] not in _tokenizers:
            return UNKNOWN, b""
        return COMPILED, _in_thread(_tokenizers[asked["vocabulary"]], asked["form"]).encode()
    except RequestError as error:
        return REFUSED, json.dumps([str(error), error.field]).encode()
    except (MemoryError, RecursionError):
        return REFUSED, json.dumps(["it is too large: shorten it", None]).encode()


def _learn(name: str, tokenizer: str, eos_ids: Sequence[int]) -> None:
    _tokenizers[name] = ll_tokenizer(tokenizer, eos_ids)
    while len(_tokenizers) > VOCABULARIES:
        _tokenizers.popitem(last=False)


def _in_thread(tokenizer: LLTokenizer, form: dict[str, Any]) -> str:
    """The grammar, compiled with a stack of known size."""
    found: list[str | BaseException] = []

    def compile_it() -> None:
        try:
            found.append(_tried(tokenizer, form))
        except BaseException as error:
            found.append(error)

    threading.stack_size(STACK_BYTES)
    thread = threading.Thread(target=compile_it)
    thread.start()
    thread.join()
    (result,) = found
    if isinstance(result, BaseException):
        raise result
    return result


def _tried(tokenizer: LLTokenizer, form: dict[str, Any]) -> str:
    wanted = StructuredOutputs(**form)
    grammar = to_llguidance(wanted)
    if len(grammar) > MOST_CHARACTERS:
        raise RequestError(f"{len(grammar)} characters are more than {MOST_CHARACTERS}")
    try:
        matcher = compiled(tokenizer, grammar)
    except RequestError as error:
        raise with_schema_place(error, wanted) from None
    _follow(matcher)
    return grammar


def _follow(matcher: Any) -> None:
    """Raise `RequestError` if some answer's first tokens take too much work."""
    numbers, started = random.Random(1), time.thread_time()
    for _ in range(FOLLOWED):
        began = time.thread_time()
        mask = matcher.compute_bitmask()
        now = time.thread_time()
        if matcher.is_error() or now - began > STEP_S or now - started > FOLLOW_S:
            raise RequestError(COSTLY)
        allowed = int.from_bytes(mask, "little")
        if not allowed:
            return
        first = numbers.randrange(allowed.bit_length())
        rest = allowed >> first  # never 0: the highest bit is set
        matcher.consume_token(first + (rest & -rest).bit_length() - 1)
        if matcher.is_stopped():
            return


if __name__ == "__main__":
    run(answer)
