"""A flat batch as the attention kernel reads it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class PagedBatch:
    """Which rows belong to which request, and where its context lies. R requests; tensors on the device.

    Rows are counted from `firsts[0]`: a slice of the requests goes with the slice of the rows that are theirs, so that
    decodes (if they stand first) and chunks of one batch can be launched apart, each in its own way. A request without
    rows (`firsts[r] == firsts[r + 1]`) is padding: a program looks at it and is done.
    """

    firsts: Tensor  # [R + 1] int32: row of each request's first token, and the row after the last one's last
    ends: Tensor  # [R] int32: sequence length after this chunk, in tokens
    tables: Tensor  # [R, most blocks] int32: block tables; what stands beyond the end is never looked at
    most_rows: int  # no request has more rows than this: 1 if all are decodes
    most_context: int  # no sequence is longer than this, in tokens

    def slice(self, begin: int, end: int, most_rows: int | None = None) -> PagedBatch:
        """Requests `[begin, end)`, which may be known to have fewer rows at most."""
        rows = self.most_rows if most_rows is None else most_rows
        some = slice(begin, end)
        return PagedBatch(self.firsts[begin : end + 1], self.ends[some], self.tables[some], rows, self.most_context)
