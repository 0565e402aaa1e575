"""Trace files of every kind we know, told apart by their columns or keys."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TextIO

from orcinus.errors import ConfigError
from orcinus.observe.recorder import VERSION
from orcinus.workload.arrival import Arrival
from orcinus.workload.block_trace import parse, read_blocks
from orcinus.workload.bounds import positive
from orcinus.workload.chat_trace import CountTokens, estimate_tokens, read_chats
from orcinus.workload.csv_trace import columns_of, read_csv
from orcinus.workload.place import Place
from orcinus.workload.recorded import read_record

Read = Callable[[Place, TextIO, CountTokens], Iterator[Arrival]]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of file: its name, whether it says when requests came, and how it is read."""

    name: str
    timed: bool
    read: Read


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests of a file in its order, with times multiplied by `scale` (0.5 is twice as fast). The first arrives at 0.

    CSV and JSON lines are read line by line, as requests are asked for: memory does not grow with the file. Hence times
    that go backwards are refused, as sorting would need all of them. Raises `ConfigError`, at once for a file that is
    none, and with its line for one that goes wrong later.
    """

    file: str
    scale: float = 1.0

    def __post_init__(self) -> None:
        positive("scale (of time)", self.scale)
        _ = self.kind

    @property
    def kind(self) -> Kind:
        """What the file is, from its first line."""
        with _opened(self.file) as file:
            return _kind(Place(self.file), file)

    def arrivals(self, count_tokens: CountTokens = estimate_tokens) -> Iterator[Arrival]:
        """The requests; those of a file without times all arrive at 0. `count_tokens` is for files of text. Lazy."""
        place, kind, first, last = Place(self.file), self.kind, None, 0.0
        with _opened(self.file) as file:
            try:
                for arrival in kind.read(place, file, count_tokens):
                    first = arrival.at if first is None else first
                    if arrival.at < last:
                        raise place.wrong(f"time goes back from {last} to {arrival.at}: sort the trace by time")
                    last = arrival.at
                    moved = (arrival.at - first) * self.scale
                    yield arrival if moved == arrival.at else replace(arrival, at=moved)
            except (UnicodeDecodeError, csv.Error) as error:
                raise ConfigError(f"after line {place.line}, {self.file} is no text: {error}") from None
        if first is None:
            raise ConfigError(f"{self.file} holds no requests")


def _opened(path: str) -> TextIO:
    try:
        return open(path, encoding="utf-8-sig", newline="")
    except OSError as error:
        raise ConfigError(f"cannot read the trace {path}: {error.strerror or error}") from None


def _kind(place: Place, file: TextIO) -> Kind:
    try:
        while (start := file.read(1)).isspace():  # a list of conversations may be one line of gigabytes
            place.line += start == "\n"
        line = start + ("" if start == "[" else file.readline())
    except UnicodeDecodeError:
        raise ConfigError(f"{place.file} is no text, so it is no trace") from None
    if not line:
        raise ConfigError(f"{place.file} is empty")
    if start == "[":
        return Kind("conversations", False, read_chats)
    if start == "{":
        return _kind_of_lines(place, line)
    columns = columns_of(place, next(csv.reader([line])))
    return Kind("columns", bool(columns.at), lambda place, file, count: read_csv(place, file))


def _kind_of_lines(place: Place, line: str) -> Kind:
    fields = parse(place, line)
    if fields.get("kind") == "engine" and fields.get("version") == VERSION:
        return Kind("recorded run", True, lambda place, file, count: read_record(place, file))
    if {"timestamp", "input_length", "output_length"} <= fields.keys():
        return Kind("blocks", True, lambda place, file, count: read_blocks(place, file))
    raise place.wrong(
        "its keys are of no trace: timestamp, input_length, output_length (and hash_ids), "
        f"or a recorded run of version {VERSION}"
    )
