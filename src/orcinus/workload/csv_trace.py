"""Traces as comma-separated values: the Azure traces, and those of Vidur and Sarathi-Serve with or without times."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orcinus.workload.arrival import Arrival
from orcinus.workload.place import Place


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of one kind of file are called. Times are dates, or seconds; `at` is empty where there are none."""

    at: str
    prompt: str
    output: str
    dates: bool = False

    @property
    def names(self) -> list[str]:
        """Those that must be there."""
        return [name for name in (self.at, self.prompt, self.output) if name]


KINDS = (
    Columns("TIMESTAMP", "ContextTokens", "GeneratedTokens", dates=True),
    Columns("arrived_at", "num_prefill_tokens", "num_decode_tokens"),
    Columns("", "num_prefill_tokens", "num_decode_tokens"),
)


def columns_of(place: Place, header: Sequence[str]) -> Columns:
    """The first kind all of whose columns are there. Raises `ConfigError` if there is none."""
    names = {name.strip() for name in header}
    for kind in KINDS:
        if names.issuperset(kind.names):
            return kind
    known = "; or ".join(", ".join(kind.names) for kind in KINDS)
    raise place.wrong(f"its columns are {', '.join(sorted(names))[:200]}, but those of a trace are {known}")


def read_csv(place: Place, lines: Iterable[str]) -> Iterator[Arrival]:
    """The requests of a file with a header. Times are as they are written; dates count from the first. Raises `ConfigError`."""
    rows = csv.reader(lines)
    header = [name.strip() for name in next(row for row in rows if row)]
    kind = columns_of(place, header)
    start: datetime | None = None
    for row in rows:
        if not row:
            continue
        place.line = rows.line_num
        if len(row) != len(header):
            raise place.wrong(f"it has {len(row)} fields where the header has {len(header)}")
        fields = dict(zip(header, row, strict=True))
        at = 0.0
        if kind.dates:
            date = _date(place, fields[kind.at])
            start = start or date
            at = (date - start).total_seconds()
            if at < 0:
                raise place.wrong("it is earlier than the first request: sort the trace by time")
        elif kind.at:
            at = place.seconds(fields, kind.at)
        yield Arrival(at, place.tokens(fields, kind.prompt), place.tokens(fields, kind.output))


def _date(place: Place, text: str) -> datetime:
    """A date of ISO 8601, in UTC if it does not say. Digits beyond microseconds are dropped."""
    try:
        date = datetime.fromisoformat(text.strip())
    except ValueError:
        raise place.wrong(f"TIMESTAMP must be a date like 2023-11-16 18:17:03.97, not {text[:40]!r}") from None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
