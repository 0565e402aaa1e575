"""Requests of recorded runs (`--record`), with their real lengths."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orcinus.errors import ConfigError
from orcinus.workload.arrival import Arrival
from orcinus.workload.block_trace import objects
from orcinus.workload.file_position import FilePosition

BLOCK = 16  # prompt tokens per named block


@dataclass(slots=True)
class _Seen:
    line: int
    arrival: Arrival  # one output token until its ending is read
    output_tokens: int = 0


def read_record(place: FilePosition, lines: Iterable[str]) -> Iterator[Arrival]:
    """Every request that got a token, with its real output length.

    Shared prefixes are known in blocks of 16 tokens. A request's length is known only when it ends, so the whole file is
    read before the first request comes; submissions, but not the tokens, are kept in memory. Raises `ConfigError`.
    """
    run = _Run()
    for line in objects(place, lines):
        place.attempt(run.read, place, line)
    for request in run.seen:
        if tokens := request.output_tokens:
            place.line = request.line
            yield replace(request.arrival, output_tokens=tokens)


class _Run:
    """Requests of a run, collected from a record's lines in order."""

    def __init__(self) -> None:
        self.seen: list[_Seen] = []
        self._running: dict[str, _Seen] = {}
        self._batches: dict[int, list[str]] = {}

    def read(self, place: FilePosition, line: dict[str, Any]) -> None:
        """Read one line. Raises `ConfigError` if it contradicts earlier ones."""
        try:
            self._read(place, line)
        except ConfigError:
            raise  # also a ValueError, and its message has the place
        except (KeyError, TypeError, IndexError, ValueError, AttributeError):
            raise place.wrong("it does not fit into a record of iterations: was the file changed?") from None

    def _read(self, place: FilePosition, line: dict[str, Any]) -> None:
        if line["kind"] == "submit":
            self._running[line["id"]] = _Seen(place.line, _arrival(place, line))
            self.seen.append(self._running[line["id"]])
        elif line["kind"] == "launch":
            self._batches[line["batch"]] = [chunk[0] for chunk in line["chunks"]]
        elif line["kind"] == "return":
            for name, tokens in zip(self._batches.pop(line["batch"]), line["tokens"], strict=True):
                if name in self._running:
                    self._running[name].output_tokens += len(tokens)
        elif line["kind"] == "finish":
            del self._running[line["id"]]


def _arrival(place: FilePosition, submit: dict[str, Any]) -> Arrival:
    prompt = submit["prompt"]
    return Arrival(
        place.seconds(submit, "at"),
        len(prompt),
        output_tokens=1,
        max_tokens=submit["params"].get("max_tokens"),
        client=submit["client"],
        priority=submit["priority"],
        blocks=_blocks(prompt, submit["cache_salt"] + submit.get("lora", "")),
        block_tokens=BLOCK,
    )


def _blocks(prompt: Sequence[int], salt: str) -> tuple[int, ...]:
    """Names of the prompt's blocks; equal names are equal prefixes."""
    names, name = [], zlib.crc32(salt.encode())
    for start in range(0, len(prompt), BLOCK):
        name = hash((name, tuple(prompt[start : start + BLOCK])))  # of integers: the same in every process
        names.append(name)
    return tuple(names)
