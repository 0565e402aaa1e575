"""CSV traces: Azure, BurstGPT, Vidur and Sarathi-Serve."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orcinus.workload.arrival import Arrival
from orcinus.workload.file_position import FilePosition


@dataclass(frozen=True, slots=True)
class Columns:
    """Column names of one kind of file; `at` is empty without times."""

    at: str
    prompt: str
    output: str
    dates: bool = False

    @property
    def names(self) -> list[str]:
        """The columns that a file must have."""
        return [name for name in (self.at, self.prompt, self.output) if name]


KINDS = (
    Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", dates=True),
    Columns("Timestamp", "Request tokens", "Response tokens"),  # BurstGPT; its failed requests have no response tokens
    Columns("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    Columns("", "num_prefill_tokens", "num_decode_tokens"),
)


def columns_of(place: FilePosition, header: Sequence[str]) -> Columns:
    """The first kind whose columns the file has. Raises `ConfigError`."""
    names = {name.strip() for name in header}
    for kind in KINDS:
        if names.issuperset(kind.names):
            return kind
    known = "; or ".join(", ".join(kind.names) for kind in KINDS)
    raise place.wrong(f"its columns are {', '.join(sorted(names))[:200]}, but those of a trace are {known}")


def read_csv(place: FilePosition, file: Iterable[str]) -> Iterator[Arrival]:
    """The requests of a CSV file. Raises `ConfigError`.

    Dates are converted to seconds after the first.
    """
    lines = place.lines(file)
    header = [name.strip() for name in next(csv.reader([next(lines)], skipinitialspace=True))]
    reader = _Reader(place, header, columns_of(place, header))
    for line in lines:
        found = place.attempt(reader.read, line)
        if found is not None:
            yield found


class _Reader:
    """Reads rows of a file; each line is a row."""

    def __init__(self, place: FilePosition, header: Sequence[str], kind: Columns) -> None:
        self._place, self._header, self._kind = place, header, kind
        self._start: datetime | None = None

    def read(self, line: str) -> Arrival:
        """The request of a row. Raises `ConfigError`."""
        place, kind = self._place, self._kind
        try:
            row = next(csv.reader([line], skipinitialspace=True))
        except csv.Error as error:
            raise place.wrong(f"it is no row: {error}") from None
        if len(row) != len(self._header):
            raise place.wrong(f"it has {len(row)} fields where the header has {len(self._header)}")
        fields = dict(zip(self._header, row, strict=True))
        prompt, output = place.tokens(fields, kind.prompt), place.tokens(fields, kind.output)
        at = 0.0
        if kind.dates:
            at = self._since_start(_date(place, fields[kind.at]))
        elif kind.at:
            at = place.seconds(fields, kind.at)
        return Arrival(at, prompt, output)

    def _since_start(self, date: datetime) -> float:
        self._start = self._start or date
        seconds = (date - self._start).total_seconds()
        if seconds < 0:
            raise self._place.wrong("it is earlier than the first request: sort the trace by time")
        return seconds


def _date(place: FilePosition, text: str) -> datetime:
    """A date of ISO 8601, UTC by default, to the microsecond."""
    try:
        date = datetime.fromisoformat(text.strip())
    except ValueError:
        raise place.wrong(f"TIMESTAMP must be a date like 2023-11-16 18:17:03.97, not {text[:40]!r}") from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
