"""Finds exponential regular expressions in tokenizers before they meet text (ADR 21)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orcinus.errors import ModelError, RequestError, one_line
from orcinus.model_config import shown
from orcinus.parent import python_module

PROCESS = "orcinus.text.pattern_process"
WAIT_S = 120.0  # for a process that limits itself to seconds of CPU time, on a machine that is busy
STAGES = ("normalizer", "pre_tokenizer", "decoder")
KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME", "PATH")  # of the environment


def check_patterns(tokenizer: Any, folder: Path) -> bool:
    """Whether all regular expressions of a tokenizer could be tried.

    Raises `ModelError` if one of them is exponential.
    """
    patterns = list(dict.fromkeys(_patterns(tokenizer)))
    if not patterns:
        return True
    printed = _try(patterns).split()
    if printed and printed[-1] != "done":  # no line: nothing was tried; encoding has limits of its own
        pattern = shown(patterns[int(printed[-1])])
        raise ModelError(
            f"the tokenizer in {folder} has the regular expression {pattern}, which takes exponential time: mend it"
        )
    return bool(printed)


@contextmanager
def tokenizer_errors() -> Iterator[None]:
    """Turn what the `tokenizers` library raises on a text into `RequestError`.

    It panics on too many steps, and raises bare `Exception` otherwise.
    """
    try:
        yield
    except BaseException as error:
        if is_panic(error):
            said = "the tokenizer's regular expression takes too many steps on this text: shorten the text"
            raise RequestError(said) from None
        if type(error) is not Exception:
            raise
        raise RequestError(f"the model's tokenizer cannot read this text: {one_line(error)}") from None


def is_panic(error: BaseException) -> bool:
    """Whether an exception is a panic of a Rust library.

    Panics are no subclass of `Exception`, and their class cannot be imported.
    """
    return type(error).__name__ == "PanicException"


def _patterns(tokenizer: Any) -> Iterator[str]:
    for stage in STAGES:
        part = getattr(tokenizer, stage, None)
        if part is not None and hasattr(part, "__getstate__"):
            state = part.__getstate__()
            yield from _regexes(json.loads(state) if isinstance(state, bytes | str) else None)


def _regexes(node: Any) -> Iterator[str]:
    """Every `{"Regex": pattern}` in a description, at any depth."""
    if isinstance(node, dict):
        if isinstance(node.get("Regex"), str):
            yield node["Regex"]
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from _regexes(inner)


def _try(patterns: list[str]) -> str:
    """What the testing process prints; nothing if it cannot start.

    Its errors, panics included, are not shown.
    """
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    try:
        process = subprocess.Popen(
            python_module(PROCESS),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
            text=True,
        )
    except OSError:  # for example, an interpreter that this user may not run
        return ""
    try:
        return process.communicate(json.dumps(patterns), WAIT_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]
    except BaseException:
        process.kill()
        raise
