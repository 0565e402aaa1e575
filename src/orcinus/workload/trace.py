"""Trace files, recognised by their columns or keys."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TextIO, cast

from orcinus.errors import ConfigError
from orcinus.observe.recorder import READABLE
from orcinus.workload.arrival import Arrival
from orcinus.workload.block_trace import objects, parse, read_block_line
from orcinus.workload.bounds import MOST_TOKENS, positive, within
from orcinus.workload.chat_trace import read_chat
from orcinus.workload.csv_trace import columns_of, read_csv
from orcinus.workload.file_position import FilePosition, Skipped
from orcinus.workload.message_trace import holds_messages, read_messages
from orcinus.workload.recorded import read_record
from orcinus.workload.token_counts import CountTokens, token_counter

Read = Callable[[FilePosition, TextIO, CountTokens], Iterator[Arrival]]
ReadRow = Callable[[FilePosition, Any, CountTokens], list[Arrival]]
GZIP = b"\x1f\x8b"
LOOKED_AT = 100  # lines read to recognise a JSON lines file


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of trace file: name, contents (times, texts), reader."""

    name: str
    timed: bool
    read: Read
    text: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """A file's requests in order, with times multiplied by `scale`.

    A scale of 0.5 is twice as fast. The first request arrives at 0. CSV and JSON lines, gzipped or not, are read line by
    line as requests are asked for, so memory does not grow with the file. Therefore the file must be sorted by time: a row
    with an earlier time than the one before is bad. Bad rows are counted and skipped, or end the reading with
    `reject_bad_rows`. Text is counted by the `tokenizer` in a folder, or by the bundled model's; answers missing from a
    file have `answer` tokens.

    Raises `ConfigError`, at once for an unreadable file, and with the line for a later error.
    """

    file: str
    scale: float = 1.0
    tokenizer: str = ""
    answer: int | None = None
    reject_bad_rows: bool = False

    def __post_init__(self) -> None:
        positive("scale (of time)", self.scale)
        if self.answer is not None:
            within("answer (in tokens)", self.answer, 1, MOST_TOKENS)
        _ = self.kind

    @property
    def kind(self) -> Kind:
        """The file's kind, from its first lines."""
        with _opened(self.file) as file:
            return self._kind(FilePosition(self.file), file)

    @property
    def counted_by(self) -> str:
        """The tokenizer that counts a text file's tokens."""
        return f"the tokenizer in {self.tokenizer}" if self.tokenizer else "the bundled model's tokenizer"

    def arrivals(self, count_tokens: CountTokens | None = None, skipped: Skipped | None = None) -> Iterator[Arrival]:
        """The requests, lazily; without times in the file all arrive at 0.

        `count_tokens` replaces the tokenizer. `skipped` collects the rows that this reading skips.
        """
        skipped = skipped or Skipped()
        skipped.clear()
        place = FilePosition(self.file, skipped=None if self.reject_bad_rows else skipped)
        kind, served = self.kind, 0
        count = count_tokens or (token_counter(self.tokenizer) if kind.text else _no_counter)
        with _opened(self.file) as file:
            try:
                for arrival in self._forwards(place, kind.read(place, file, count)):
                    served += 1
                    yield arrival
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ConfigError(f"after line {place.line}, {self.file} cannot be unpacked: {error}") from None
        if not served:
            raise ConfigError(f"{self.file} holds no requests" + (f": {skipped.said}" if skipped.rows else ""))

    def _forwards(self, place: FilePosition, arrivals: Iterator[Arrival]) -> Iterator[Arrival]:
        """Times counted from the first; decreasing ones are bad rows."""
        first = last = None
        for arrival in arrivals:
            first = arrival.at if first is None else first
            if last is not None and arrival.at < last:
                place.attempt(_refuse, place, f"time goes back from {last} to {arrival.at}: sort the trace by time")
                continue
            last = arrival.at
            moved = (arrival.at - first) * self.scale
            yield arrival if moved == arrival.at else replace(arrival, at=moved)

    def _kind(self, place: FilePosition, file: TextIO) -> Kind:
        """The kind of a file. Raises `ConfigError` if unknown."""
        start, line = _first(place, file)
        if start == "[":
            return Kind("conversations", False, partial(_listed, self._conversation), text=True)
        if start == "{":
            return self._kind_of_lines(place, line, file)
        columns = columns_of(place, next(csv.reader([line], skipinitialspace=True)))
        return Kind("columns", bool(columns.at), lambda place, file, count: read_csv(place, file))

    def _kind_of_lines(self, place: FilePosition, first: str, file: TextIO) -> Kind:
        """The kind of the first line that has one.

        Raises `ConfigError` if none has.
        """
        number, complaint = place.line, None
        for place.line, line in enumerate((first, *islice(file, LOOKED_AT)), number):
            try:
                return self._kind_of_line(place, line)
            except ConfigError as error:
                complaint = complaint or error
        raise cast(ConfigError, complaint)

    def _kind_of_line(self, place: FilePosition, line: str) -> Kind:
        fields = parse(place, line)
        if fields.get("kind") == "engine" and fields.get("version") in READABLE:
            return Kind("recorded run", True, lambda place, file, count: read_record(place, file))
        if {"timestamp", "input_length", "output_length"} <= fields.keys():
            return Kind("blocks", True, partial(_each, lambda place, fields, count: read_block_line(place, fields)))
        if holds_messages(fields) or "conversations" in fields:
            return Kind("conversations", False, partial(_each, self._conversation), text=True)
        raise place.wrong(
            "its keys are of no trace: timestamp, input_length, output_length (and hash_ids), messages (or a body with "
            f"messages), conversations, or a recorded run of version {' or '.join(map(str, READABLE))}"
        )

    def _conversation(self, place: FilePosition, fields: Any, count: CountTokens) -> list[Arrival]:
        """The requests of one conversation, in either format."""
        if isinstance(fields, dict) and holds_messages(fields):
            return read_messages(place, fields, count, self.answer)
        return read_chat(place, fields, count)


def _each(read: ReadRow, place: FilePosition, file: TextIO, count: CountTokens) -> Iterator[Arrival]:
    """The requests of every JSON line."""
    return _rows(read, place, objects(place, file), count)


def _listed(read: ReadRow, place: FilePosition, file: TextIO, count: CountTokens) -> Iterator[Arrival]:
    """The requests of a JSON list, read as a whole. Raises `ConfigError`."""
    try:
        items = json.load(file)
    except (ValueError, RecursionError) as error:
        place.line = getattr(error, "lineno", 1)
        raise place.wrong("it is no JSON: was the file cut short?") from None
    place.unit = "conversation"
    return _rows(read, place, _numbered(place, items), count)


def _numbered(place: FilePosition, items: Iterable[Any]) -> Iterator[Any]:
    for place.line, item in enumerate(items, 1):
        yield item


def _rows(read: ReadRow, place: FilePosition, rows: Iterable[Any], count: CountTokens) -> Iterator[Arrival]:
    for row in rows:
        yield from place.attempt(read, place, row, count) or ()


def _refuse(place: FilePosition, what: str) -> None:
    raise place.wrong(what)


def _no_counter(text: str) -> int:
    """A counter for files without text."""
    raise AssertionError("lengths of text need a tokenizer")


def _opened(path: str) -> TextIO:
    """The text of a file, gzipped or not.

    Invalid UTF-8 becomes lone surrogates, which `FilePosition.text` refuses.
    """
    try:
        with open(path, "rb") as file:
            opened: Callable[..., Any] = gzip.open if file.read(2) == GZIP else open
        return cast(TextIO, opened(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=""))
    except OSError as error:
        raise ConfigError(f"cannot read the trace {path}: {error.strerror or error}") from None


def _first(place: FilePosition, file: TextIO) -> tuple[str, str]:
    """A file's first character, and its line.

    Raises `ConfigError` if the file is empty.
    """
    try:
        while (start := file.read(1)).isspace():  # a list of conversations may be one line of gigabytes
            place.line += start == "\n"
        line = start + ("" if start == "[" else file.readline())
        if start != "{":
            place.text(line)
    except (ConfigError, EOFError, zlib.error, gzip.BadGzipFile):
        raise ConfigError(f"{place.file} is no text, so it is no trace") from None
    if not line:
        raise ConfigError(f"{place.file} is empty")
    return start, line
